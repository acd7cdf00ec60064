// Package openapi says what is wrong with a description of an API, by two judges:
// the schema of OpenAPI 3.1, which knows every field, and a reader of it, which
// knows what no schema can say: where references lead, which names are taken
// twice, whether paths have their parameters, whether examples and defaults fit.
//
// It stands in the module of the tools, so that nothing of it is in the binary.
package openapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/pb33f/libopenapi/datamodel"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// strict is the schema of OpenAPI 3.1 where it leaves open what a JSON schema
// inside of the description may be: one of JSON Schema 2020-12.
const strict = `{
	"$id": "godwit:strict",
	"$ref": "https://spec.openapis.org/oas/3.1/schema/2022-10-07",
	"$defs": {"schema": {"$dynamicAnchor": "meta", "$ref": "https://json-schema.org/draft/2020-12/schema"}}
}`

// Check is nil if doc describes an API as OpenAPI 3.1 wants it.
func Check(doc []byte) error { return errors.Join(schema(doc), sense(doc)) }

// schema lays the description beside the schema of OpenAPI 3.1. Nothing is fetched:
// the schema comes with its module.
func schema(doc []byte) error {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, text := range []string{datamodel.OpenAPI31SchemaData, strict} {
		s, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return fmt.Errorf("read the schema: %w", err)
		}
		id, _ := s.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, s); err != nil {
			return fmt.Errorf("read the schema: %w", err)
		}
	}
	s, err := c.Compile("godwit:strict")
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(doc)))
	if err != nil {
		return fmt.Errorf("read the description: %w", err)
	}
	return s.Validate(v)
}

// sense reads the description as whoever makes code of it does.
func sense(doc []byte) error {
	loader := openapi3.NewLoader()
	d, err := loader.LoadFromData(doc)
	if err != nil {
		return fmt.Errorf("read the description: %w", err)
	}
	return d.Validate(loader.Context, openapi3.EnableMultiError())
}
