import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.hl7.fhir.r5.elementmodel.Manager;
import org.hl7.fhir.utilities.FhirPublication;
import org.hl7.fhir.utilities.settings.FhirSettings;
import org.hl7.fhir.utilities.validation.ValidationMessage;
import org.hl7.fhir.validation.ValidationEngine;

/** Validates each file of a folder with HL7's engine and a package; prints an issue a line, as JSON. */
class Validate {
    public static void main(String[] arguments) throws Exception {
        FhirSettings.setProhibitNetworkAccess(true);
        ValidationEngine engine = new ValidationEngine.ValidationEngineBuilder().withVersion("4.0.1").withNoTerminologyServer()
            .withCanRunWithoutTerminologyServer(true).withUserAgent("tests").fromSource("hl7.fhir.r4.core#4.0.1");
        engine.connectToTSServer(null, null, "tests", FhirPublication.R4, false);
        engine.getIgLoader().loadIg(engine.getIgs(), engine.getBinaries(), arguments[1], false);
        engine.setAllowExampleUrls(true);
        engine.prepare();
        File[] files = new File(arguments[0]).listFiles();
        Arrays.sort(files);
        for (File file : files) {
            List<ValidationMessage> found = new ArrayList<>();
            engine.validate(Files.readAllBytes(file.toPath()), Manager.FhirFormat.JSON, new ArrayList<>(), found);
            for (ValidationMessage issue : found) {
                Map<String, String> shown = Map.of("level", String.valueOf(issue.getLevel()), "id", String.valueOf(issue.getMessageId()),
                    "text", issue.getMessage(), "place", file.getName() + " " + issue.getLocation());
                System.out.println("ISSUE " + new ObjectMapper().writeValueAsString(shown));
            }
        }
        System.out.println("DONE " + files.length);
    }
}
