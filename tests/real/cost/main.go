// crd-cost FILE… prints what Kubernetes estimates each CEL rule of a definition (JSON) to cost at the worst, a line each.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

func main() {
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		check(err)
		var crd v1.CustomResourceDefinition
		check(json.Unmarshal(text, &crd))
		for _, version := range crd.Spec.Versions {
			var schema apiextensions.JSONSchemaProps
			check(v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &schema, nil))
			walk(crd.Name, &schema, validation.RootCELContext(&schema))
		}
	}
}

func walk(path string, schema *apiextensions.JSONSchemaProps, context *validation.CELSchemaContext) {
	if len(schema.XValidations) > 0 {
		types, err := context.TypeInfo()
		check(err)
		environments := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
		compiled, err := cel.Compile(types.Schema, types.DeclType, limits.PerCallLimit, environments, cel.NewExpressionsEnvLoader())
		check(err)
		for i, rule := range compiled {
			times := rule.MaxCardinality
			if context.MaxCardinality != nil {
				times = *context.MaxCardinality
			}
			fmt.Printf("%d\t%d\t%s\t%s\n", rule.MaxCost*times, rule.MessageExpressionMaxCost*times, path, schema.XValidations[i].Rule)
		}
	}
	for name, child := range schema.Properties {
		walk(path+"."+name, &child, context.ChildPropertyContext(&child, name))
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		walk(path+"[]", schema.Items.Schema, context.ChildItemsContext(schema.Items.Schema))
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		child := schema.AdditionalProperties.Schema
		walk(path+"{}", child, context.ChildAdditionalPropertiesContext(child))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
