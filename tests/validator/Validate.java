import static org.apache.commons.text.StringEscapeUtils.escapeXml11;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Library;
import org.hl7.fhir.r4.model.MetadataResource;
import org.hl7.fhir.r4.model.StructureDefinition;
import org.hl7.fhir.utilities.npm.NpmPackage;

/**
 * Runs HL7's validator over FHIR R4 files, without a terminology server.
 *
 * <p>Usage: Validate PACKAGE DEFINITIONS FILE[=PROFILE]... The first is the FHIR package to validate
 * against; the second a folder of what the package builds on and this machine has no package of.
 * Prints a line for each message: file, severity, place, text, with tabs.
 */
public final class Validate {
    public static void main(String[] arguments) throws Exception {
        var context = FhirContext.forR4();
        writePackage(context);
        var ours = new Published(context);
        try (var content = Files.newInputStream(Path.of(arguments[0]))) {
            ours.load(NpmPackage.fromPackage(content));
        }
        for (var file : new File(arguments[1]).listFiles()) {
            ours.add(Files.readString(file.toPath()));
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
        for (var argument : List.of(arguments).subList(2, arguments.length)) {
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

    /** What a package publishes. HAPI's own keeps profiles and terminology; this also the rest. */
    private static final class Published extends PrePopulatedValidationSupport {
        private final Map<String, IBaseResource> byCanonical = new HashMap<>();

        Published(FhirContext context) {
            super(context);
        }

        void load(NpmPackage content) throws IOException {
            for (var name : content.list("package")) {
                if (!name.equals("package.json")) {
                    add(new String(content.load("package", name).readAllBytes(), StandardCharsets.UTF_8));
                }
            }
        }

        void add(String text) throws IOException {
            var resource = getFhirContext().newJsonParser().parseResource(text);
            addResource(resource);
            if (resource instanceof Library library) {
                addNamesOfExpressions(library);
            }
            if (resource instanceof MetadataResource definition) {
                byCanonical.put(definition.getUrl(), definition);
                byCanonical.put(definition.getUrl() + "|" + definition.getVersion(), definition);
            }
        }

        /**
         * HL7's validator reads compiled CQL as XML alone, and of it the names that a Measure may
         * use; ours is compiled to JSON, and the same names are read there.
         */
        private static void addNamesOfExpressions(Library library) throws IOException {
            for (var content : List.copyOf(library.getContent())) {
                if (content.getContentType().equals("application/elm+json")) {
                    var names = new StringBuilder();
                    for (var one : new ObjectMapper().readTree(content.getData()).at("/library/statements/def")) {
                        names.append("<def name=\"%s\"/>".formatted(escapeXml11(one.get("name").asText())));
                    }
                    var xml = "<library xmlns=\"urn:hl7-org:elm:r1\"><statements>%s</statements></library>".formatted(names);
                    library.addContent()
                            .setContentType("application/elm+xml")
                            .setData(xml.getBytes(StandardCharsets.UTF_8));
                }
            }
        }

        @Override
        public <T extends IBaseResource> T fetchResource(Class<T> type, String canonical) {
            var found = byCanonical.get(canonical);
            return type != null && type.isInstance(found) ? type.cast(found) : super.fetchResource(type, canonical);
        }
    }

    private static void print(String file, SingleValidationMessage message) {
        if (message.getSeverity() != ResultSeverityEnum.INFORMATION) {
            var text = message.getMessage().replaceAll("\\s+", " ");
            var fields = List.of(file, message.getSeverity().getCode(), message.getLocationString(), text);
            System.out.println(String.join("\t", fields));
        }
    }
}
