import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.FhirVersionEnum;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import kotlinx.io.Buffer;
import org.cqframework.cql.cql2elm.CqlCompilerOptions;
import org.cqframework.cql.cql2elm.LibraryManager;
import org.cqframework.cql.cql2elm.ModelManager;
import org.hl7.elm.r1.VersionedIdentifier;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Resource;
import org.opencds.cqf.cql.engine.data.CompositeDataProvider;
import org.opencds.cqf.cql.engine.execution.CqlEngine;
import org.opencds.cqf.cql.engine.execution.Environment;
import org.opencds.cqf.cql.engine.execution.EvaluationExpressionRef;
import org.opencds.cqf.cql.engine.execution.EvaluationParams;
import org.opencds.cqf.cql.engine.execution.EvaluationResult;
import org.opencds.cqf.cql.engine.fhir.model.R4FhirModelResolver;
import org.opencds.cqf.cql.engine.retrieve.RetrieveProvider;
import org.opencds.cqf.cql.engine.runtime.DateTime;

/**
 * Compiles CQL libraries and runs them over charts, by the Java translator and engine that FHIR
 * servers use; both come with HAPI's clinical reasoning.
 *
 * <p>It reads {"libraries": {name: CQL}, "charts": [{"id", "bundle", "parameters", "asked":
 * {library: [definition]}}]} and writes a line for each chart and library asked: its results.
 */
public final class Evaluate {
    private static final PrintStream ANSWERS =
            new PrintStream(System.out, true, StandardCharsets.UTF_8);

    static {
        System.setOut(System.err); // HAPI logs to it
    }

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final FhirContext FHIR = FhirContext.forCached(FhirVersionEnum.R4);
    private static final R4FhirModelResolver MODEL = new R4FhirModelResolver(FHIR);
    private static final Set<String> MOMENTS = Set.of("As of", "Treatment start");

    public static void main(String[] arguments) throws IOException {
        var given = JSON.readTree(System.in);
        var libraries = compiler(given.get("libraries"));
        for (var chart : given.get("charts")) {
            for (var said : run(libraries, chart).entrySet()) {
                var library = said.getKey().getId();
                ANSWERS.println(line(chart.get("id").asText(), library, said.getValue()));
            }
        }
    }

    private static LibraryManager compiler(JsonNode libraries) {
        var manager = new LibraryManager(new ModelManager(), new CqlCompilerOptions());
        manager.getLibrarySourceLoader().registerProvider(library -> {
            var text = libraries.path(library.getId()).asText().getBytes(StandardCharsets.UTF_8);
            var buffer = new Buffer();
            buffer.write(text, 0, text.length);
            return buffer;
        });
        return manager;
    }

    private static Map<VersionedIdentifier, EvaluationResult> run(
            LibraryManager libraries, JsonNode chart) {
        var text = chart.get("bundle").toString();
        var entries = FHIR.newJsonParser().parseResource(Bundle.class, text).getEntry();
        var resources = entries.stream().map(Bundle.BundleEntryComponent::getResource).toList();
        var data = new CompositeDataProvider(MODEL, retrieving(resources));
        var environment = new Environment(libraries, Map.of("http://hl7.org/fhir", data));
        var engine = new CqlEngine(environment, Set.of(CqlEngine.Options.EnableExpressionCaching));
        var now = ZonedDateTime.now(ZoneOffset.UTC);
        var said = engine.evaluate(
                new EvaluationParams(asked(chart), null, parameters(chart), null, now));
        said.getExceptions().forEach((library, error) -> {
            throw new IllegalStateException(chart.get("id") + " " + library.getId(), error);
        });
        return said.getResults();
    }

    /** All of a type: the libraries choose by code themselves. */
    private static RetrieveProvider retrieving(List<Resource> resources) {
        return (context, path, subject, type, template, codePath, codes, valueSet,
                datePath, from, to, dates) -> {
            if (codes != null || valueSet != null || dates != null) {
                throw new UnsupportedOperationException("A retrieve by code or by date.");
            }
            return resources.stream().filter(one -> one.fhirType().equals(type))
                    .map(Object.class::cast).toList();
        };
    }

    private static Map<VersionedIdentifier, List<EvaluationExpressionRef>> asked(JsonNode chart) {
        var asked = new LinkedHashMap<VersionedIdentifier, List<EvaluationExpressionRef>>();
        for (var library : chart.get("asked").properties()) {
            var definitions = new ArrayList<EvaluationExpressionRef>();
            for (var name : library.getValue()) {
                definitions.add(new EvaluationExpressionRef(name.asText()));
            }
            asked.put(new VersionedIdentifier().withId(library.getKey()), definitions);
        }
        return asked;
    }

    private static Map<String, Object> parameters(JsonNode chart) {
        var parameters = new HashMap<String, Object>();
        for (var one : chart.get("parameters").properties()) {
            var value = JSON.convertValue(one.getValue(), Object.class);
            if (MOMENTS.contains(one.getKey())) {
                value = new DateTime((String) value, ZoneOffset.UTC);
            }
            parameters.put(one.getKey(), value);
        }
        return parameters;
    }

    private static String line(String chart, String library, EvaluationResult said)
            throws IOException {
        var results = new LinkedHashMap<String, Object>();
        said.getExpressionResults()
                .forEach((name, result) -> results.put(name, plain(result.getValue())));
        return JSON.writeValueAsString(
                Map.of("id", chart, "library", library, "results", results));
    }

    private static Object plain(Object value) {
        if (value instanceof Iterable<?> several) {
            var found = new ArrayList<Object>();
            several.forEach(one -> found.add(plain(one)));
            return found;
        }
        return value == null || value instanceof Boolean ? value : value.toString();
    }
}
