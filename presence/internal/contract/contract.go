// Package contract checks what passes between callers of the HTTP API and its handlers against the OpenAPI document. Only
// tests use it.
package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Document is an OpenAPI document, and what was seen of what it says.
type Document struct {
	doc *openapi3.T

	mu   sync.Mutex
	seen map[string]bool // "GET /path 200", and "schema.property"
}

// Load reads a document, and fails if it is not a good one.
func Load(data []byte) (*Document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, fmt.Errorf("load the document: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("the document is not valid: %w", err)
	}
	return &Document{doc: doc, seen: map[string]bool{}}, nil
}

// Operations are those of the document, such as "GET /v1/online", sorted.
func (d *Document) Operations() (list []string) {
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			list = append(list, method+" "+path)
		}
	}
	slices.Sort(list)
	return list
}

// operation finds an operation by "METHOD /path".
func (d *Document) operation(name string) (*openapi3.PathItem, *openapi3.Operation) {
	method, path, _ := strings.Cut(name, " ")
	item := d.doc.Paths.Value(path)
	if item == nil {
		return nil, nil
	}
	return item, item.GetOperation(method)
}

// Parameters are the names of those of an operation that are in the given place, sorted.
func (d *Document) Parameters(operation, in string) []string {
	names := []string{}
	if item, op := d.operation(operation); op != nil {
		for _, p := range slices.Concat(item.Parameters, op.Parameters) {
			if p.Value.In == in {
				names = append(names, p.Value.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// BodyProperties are those of the body of an operation, sorted; nil if it takes none.
func (d *Document) BodyProperties(operation string) []string {
	_, op := d.operation(operation)
	if op == nil || op.RequestBody == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(op.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties))
}

// find returns the operation that a request is for, and its path parameters.
func (d *Document) find(r *http.Request) (*routers.Route, map[string]string) {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for path, item := range d.doc.Paths.Map() {
		params, ok := match(strings.Split(path, "/"), segments)
		if op := item.GetOperation(r.Method); ok && op != nil {
			return &routers.Route{Spec: d.doc, Path: path, PathItem: item, Method: r.Method, Operation: op}, params
		}
	}
	return nil, nil
}

func match(pattern, segments []string) (map[string]string, bool) {
	if len(pattern) != len(segments) {
		return nil, false
	}
	params := map[string]string{}
	for i, p := range pattern {
		name, ok := strings.CutPrefix(p, "{")
		if !ok {
			if p != segments[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}

// Check returns how an exchange differs from the document: an answer that it does not have, or a request that was accepted
// although the document would not. Requests to other paths and by other methods are not its business.
func (d *Document) Check(r *http.Request, body []byte, status int, header http.Header, answer []byte) error {
	route, params := d.find(r)
	if route == nil {
		if status < 300 && r.Method != http.MethodHead {
			return fmt.Errorf("%s %s is not in the document", r.Method, r.URL.Path)
		}
		return nil
	}
	if status == http.StatusNotFound && bytes.Contains(answer, []byte(`"not_found"`)) {
		return nil // there is no such path on this server
	}
	r = r.Clone(context.Background())
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json") // what it is taken for
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true}}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	if strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		out.SetBodyBytes(answer)
	} else {
		out.Options.ExcludeResponseBody = true
	}
	name := route.Method + " " + route.Path
	err := openapi3filter.ValidateResponse(context.Background(), out)
	if err != nil {
		err = fmt.Errorf("%s: the answer %d is not as documented: %w", name, status, err)
	}
	if status < 300 {
		if refused := openapi3filter.ValidateRequest(context.Background(), in); refused != nil {
			err = errors.Join(err, fmt.Errorf("%s: was accepted, but is not as documented: %w", name, refused))
		}
	}
	d.saw(name + " " + strconv.Itoa(status))
	d.sawAnswer(name, status, answer)
	return err
}

// CheckSchema returns how a value in JSON differs from a schema of the document.
func (d *Document) CheckSchema(schema string, data []byte) error {
	ref := d.doc.Components.Schemas[schema]
	if ref == nil {
		return fmt.Errorf("there is no schema %s", schema)
	}
	value, err := decode(data)
	if err != nil {
		return err
	}
	if err := ref.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		return fmt.Errorf("not as the schema %s: %w", schema, err)
	}
	d.walk(schema, ref.Value, value)
	return nil
}

// Handler returns a handler that reports how what passes through h differs from the document.
func (d *Document) Handler(h http.Handler, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			report(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if err := d.Check(r, body, rec.Code, rec.Header(), rec.Body.Bytes()); err != nil {
			report(err)
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}
