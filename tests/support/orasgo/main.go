// A command line for the ORAS Go library, version 1: what `oras push` and `oras pull` did then.
//
// Debian has the library (golang-oras-oras-go-dev) and not the command. Usage:
//
//	orasgo push REFERENCE PATH...
//	orasgo pull REFERENCE DIRECTORY
//	orasgo pull-layout LAYOUT TAG DIRECTORY
//
// PATHs are relative to the working directory, and are the titles. Registries are asked by plain
// HTTP, without credentials.
package main

import (
	"context"
	"fmt"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/pkg/content"
	"oras.land/oras-go/pkg/oras"
	"oras.land/oras-go/pkg/target"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "orasgo:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) >= 3 && arguments[0] == "push":
		return push(arguments[1], arguments[2:])
	case len(arguments) == 3 && arguments[0] == "pull":
		registry, err := open()
		if err != nil {
			return err
		}
		return pull(registry, arguments[1], arguments[2])
	case len(arguments) == 4 && arguments[0] == "pull-layout":
		layout, err := content.NewOCI(arguments[1])
		if err != nil {
			return err
		}
		return pull(layout, arguments[2], arguments[3])
	}
	return fmt.Errorf("wrong arguments: %q", arguments)
}

func open() (*content.Registry, error) {
	return content.NewRegistry(content.RegistryOptions{PlainHTTP: true})
}

func push(reference string, paths []string) error {
	files := content.NewFile("")
	defer files.Close()
	var layers []ocispec.Descriptor
	for _, path := range paths {
		layer, err := files.Add(path, "", path)
		if err != nil {
			return err
		}
		layers = append(layers, layer)
	}
	manifest, descriptor, config, configDescriptor, err :=
		content.GenerateManifestAndConfig(nil, nil, layers...)
	if err != nil {
		return err
	}
	if err := files.Load(configDescriptor, config); err != nil {
		return err
	}
	if err := files.StoreManifest(reference, descriptor, manifest); err != nil {
		return err
	}
	registry, err := open()
	if err != nil {
		return err
	}
	_, err = oras.Copy(context.Background(), files, reference, registry, "")
	return err
}

func pull(from target.Target, reference, directory string) error {
	files := content.NewFile(directory, content.WithIgnoreNoName())
	defer files.Close()
	_, err := oras.Copy(context.Background(), from, reference, files, "")
	return err
}
