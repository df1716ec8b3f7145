// apiextensions-apiserver as Kubernetes' own main has it, with the OpenAPI documents that kube-apiserver turns on.
package main

import (
	"os"

	"github.com/spf13/pflag"

	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	definitions "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	generic "k8s.io/apiserver/pkg/server"
	"k8s.io/klog/v2"
)

func main() {
	given := options.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	flags := pflag.NewFlagSet("apiextensions-apiserver", pflag.ExitOnError)
	given.AddFlags(flags)
	check(flags.Parse(os.Args[1:]))
	check(given.ServerRunOptions.ComponentGlobalsRegistry.Set())
	check(given.Complete())
	check(given.Validate())
	config, err := given.Config()
	check(err)
	// Without a document of version 2 the server describes no custom resource in version 3 either.
	config.GenericConfig.OpenAPIConfig = generic.DefaultOpenAPIConfig(
		definitions.GetOpenAPIDefinitions, openapi.NewDefinitionNamer(apiserver.Scheme))
	server, err := config.Complete().New(generic.NewEmptyDelegate())
	check(err)
	check(server.GenericAPIServer.PrepareRun().RunWithContext(generic.SetupSignalContext()))
}

func check(err error) {
	if err != nil {
		klog.ErrorS(err, "cannot run")
		os.Exit(1)
	}
}
