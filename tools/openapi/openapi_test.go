package openapi

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func described(t *testing.T) []byte {
	t.Helper()
	doc, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDescription_IsOpenAPI31(t *testing.T) {
	if err := Check(described(t)); err != nil {
		t.Errorf("docs/openapi.json (handlers/admin makes it, make docs writes it):\n%v", err)
	}
}

func TestDescription_WhatIsWrongIsFound(t *testing.T) {
	doc := described(t)
	for _, wrong := range []struct{ name, old, new, want string }{
		{"a version of OpenAPI that is none", `"openapi": "3.1.0"`, `"openapi": "3.1"`, "pattern"},
		{"a title that is missing", `"title": "Godwit",`, ``, "title"},
		{"an address that is none", `"title": "Godwit",`, `"title": "Godwit", "contact": {"email": "nobody"},`, "email"},
		{"a field that nobody knows", `"summary":`, `"sumary":`, "sumary"},
		{"a status that is none", `"401": {`, `"4xx": {`, "4xx"},
		{"a type that is none", `"type": "boolean"`, `"type": "bool"`, "bool"},
		{"a bound that is no number", `"minimum": 0`, `"minimum": "0"`, "minimum"},
		{"a keyword that is none", `"required": [`, `"requires": [`, "requires"},
		{"a list that names one twice", "\"user\",\n          \"client\"\n", "\"user\",\n          \"user\"\n", "equal"},
		{"a reference that leads nowhere", `"$ref": "#/components/schemas/Drain"`, `"$ref": "#/components/schemas/Train"`, "Train"},
		{"an operation id that is taken", `"operationId": "read-node"`, `"operationId": "list-nodes"`, "same operation id"},
		{"a parameter that its path has not", `"/admin/v1/nodes/{node}": {`, `"/admin/v1/nodes/{name}": {`, "path parameters"},
		{"a path that is another one", `"/admin/v1/users/{user}": {`, `"/admin/v1/users/{name}/contacts": {`, "conflicting paths"},
		{"a default that does not fit", `"default": 100`, `"default": 0`, "default"},
		{"an example that does not fit", `"format": "date-time",`, `"format": "date-time", "example": 3,`, "example"},
		{"a lock that nobody describes", `"token": []`, `"key": []`, "security requirement"},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			if !bytes.Contains(doc, []byte(wrong.old)) {
				t.Fatalf("there is no %s to break", wrong.old)
			}
			err := Check(bytes.Replace(doc, []byte(wrong.old), []byte(wrong.new), 1))
			if err == nil || !strings.Contains(err.Error(), wrong.want) {
				t.Errorf("%s for %s: got %v, want it to say %q", wrong.new, wrong.old, err, wrong.want)
			}
		})
	}
}
