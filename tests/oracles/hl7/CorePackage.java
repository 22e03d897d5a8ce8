import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;
import org.hl7.fhir.r4.formats.JsonParser;
import org.hl7.fhir.r4.formats.XmlParser;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Resource;

/** Writes R4's definitions, which HAPI's jars hold as Bundles, as the package hl7.fhir.r4.core: no network is needed. */
class CorePackage {
    private static final String[] BUNDLES = {
        "profile/profiles-types.xml", "profile/profiles-resources.xml", "profile/profiles-others.xml",
        "extension/extension-definitions.xml", "valueset/valuesets.xml", "valueset/v2-tables.xml", "valueset/v3-codesystems.xml",
        "sp/search-parameters.json",
    };

    public static void main(String[] folder) throws Exception {
        Path out = Files.createDirectories(Path.of(folder[0], "hl7.fhir.r4.core#4.0.1", "package"));
        Set<String> written = new HashSet<>();
        for (String name : BUNDLES) {
            try (InputStream in = CorePackage.class.getResourceAsStream("/org/hl7/fhir/r4/model/" + name)) {
                Bundle bundle = (Bundle) (name.endsWith(".json") ? new JsonParser() : new XmlParser()).parse(in);
                for (Bundle.BundleEntryComponent entry : bundle.getEntry()) {
                    Resource resource = entry.getResource();
                    String file = resource.fhirType() + "-" + resource.getIdElement().getIdPart() + ".json";
                    if (!written.add(file)) continue;
                    try (OutputStream to = Files.newOutputStream(out.resolve(file))) {
                        new JsonParser().compose(to, resource);
                    }
                }
            }
        }
        describe(out, "hl7.fhir.r4.core", "4.0.1", "Core");
        // what the engine asks for besides; nothing of it is used
        String xver = "hl7.fhir.xver-extensions";
        describe(Files.createDirectories(Path.of(folder[0], xver + "#0.1.0", "package")), xver, "0.1.0", "IG");
    }

    private static void describe(Path out, String name, String version, String type) throws Exception {
        String json = "{\"name\": \"%s\", \"version\": \"%s\", \"canonical\": \"http://hl7.org/fhir\", \"url\": \"http://hl7.org/fhir/R4\","
            + " \"fhirVersions\": [\"4.0.1\"], \"type\": \"%s\", \"dependencies\": {}}";
        Files.writeString(out.resolve("package.json"), json.formatted(name, version, type));
    }
}
