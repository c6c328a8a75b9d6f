import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r4.model.MetadataResource;
import org.hl7.fhir.r4.model.StructureDefinition;

/**
 * Runs HL7's validator over FHIR R4 files, without a terminology server.
 *
 * <p>Usage: Validate DEFINITIONS FILE[=PROFILE]... The first is a folder of conformance resources
 * to validate against. Prints a line for each message: file, severity, place, text, with tabs.
 */
public final class Validate {
    public static void main(String[] arguments) throws Exception {
        var context = FhirContext.forR4();
        writePackage(context);
        var ours = new PrePopulatedValidationSupport(context);
        for (var file : new File(arguments[0]).listFiles()) {
            var definition = context.newJsonParser().parseResource(Files.readString(file.toPath()));
            if (definition instanceof MetadataResource) {
                ours.addResource(definition);
            }
        }
        var support =
                new ValidationSupportChain(
                        new DefaultProfileValidationSupport(context),
                        ours,
                        new InMemoryTerminologyServerValidationSupport(context),
                        new CommonCodeSystemsTerminologyService(context),
                        new SnapshotGeneratingValidationSupport(context));
        var instances = new FhirInstanceValidator(support);
        var validator = new FhirValidator(context).registerValidatorModule(instances);
        for (var argument : List.of(arguments).subList(1, arguments.length)) {
            var parts = argument.split("=", 2);
            var options = new ValidationOptions();
            if (parts.length > 1) {
                options.addProfile(parts[1]);
            }
            var text = Files.readString(Path.of(parts[0]));
            for (var message : validator.validateWithResult(text, options).getMessages()) {
                print(parts[0], message);
            }
            System.out.println(parts[0] + "\tdone\t\t");
        }
    }

    /**
     * For an extension the validator opens the package of its FHIR version, which is had from a
     * registry only; the same definitions come with HAPI, and are laid where the package would be.
     */
    private static void writePackage(FhirContext context) throws Exception {
        var folder = Path.of(System.getProperty("user.home"), ".fhir/packages/hl7.fhir.r4.core#4.0.1/package");
        if (Files.exists(folder)) {
            return;
        }
        Files.createDirectories(folder);
        Files.writeString(folder.getParent().getParent().resolve("packages.ini"), "[cache]\nversion=3\n");
        for (var one : new DefaultProfileValidationSupport(context).fetchAllStructureDefinitions()) {
            var definition = (StructureDefinition) one;
            var name = "StructureDefinition-" + definition.getIdElement().getIdPart() + ".json";
            Files.writeString(folder.resolve(name), context.newJsonParser().encodeToString(definition));
        }
        Files.writeString(
                folder.resolve("package.json"),
                "{\"name\": \"hl7.fhir.r4.core\", \"version\": \"4.0.1\", \"type\": \"Core\","
                        + " \"fhirVersions\": [\"4.0.1\"], \"canonical\": \"http://hl7.org/fhir\"}");
    }

    private static void print(String file, SingleValidationMessage message) {
        if (message.getSeverity() != ResultSeverityEnum.INFORMATION) {
            var text = message.getMessage().replaceAll("\\s+", " ");
            var fields = List.of(file, message.getSeverity().getCode(), message.getLocationString(), text);
            System.out.println(String.join("\t", fields));
        }
    }
}
