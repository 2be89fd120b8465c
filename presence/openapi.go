package presence

import (
	_ "embed" // the document
	"net/http"
	"sync"

	"sigs.k8s.io/yaml"
)

// openAPI describes the public API. TestAPIIsAsItsDocumentSays holds handlers and document together.
//
//go:embed openapi.yaml
var openAPI []byte

var openAPIJSON = sync.OnceValues(func() ([]byte, error) { return yaml.YAMLToJSON(openAPI) })

func serveOpenAPIJSON(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	document, err := openAPIJSON()
	if err == nil {
		writeBody(w, http.StatusOK, "application/json", document)
	}
	return err
}

func serveOpenAPIYAML(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	writeBody(w, http.StatusOK, "application/yaml", openAPI)
	return nil
}
