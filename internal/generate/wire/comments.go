package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/imcluster/imcluster/api/wire"
)

// comments are what the source says of types, fields and codes.
type comments struct {
	types    map[wire.Type]string
	fields   map[string]string // by the field's name in lower case
	presence map[string]string // likewise, of Presence
	codes    []code
}

type code struct {
	name, comment string
	value         int
}

// readComments reads the comments behind the constants of type Type and Code, and behind the fields of Frame and Presence.
func readComments(dir string) (comments, error) {
	c := comments{types: map[wire.Type]string{}, fields: map[string]string{}, presence: map[string]string{}}
	for _, name := range []string{"frame.go", "codes.go", "presence.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			return c, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				err = c.addConstant(n)
			case *ast.TypeSpec:
				c.addFields(n)
			}
			return err == nil
		})
		if err != nil {
			return c, err
		}
	}
	for _, f := range wire.Fields() {
		if c.fields[strings.ToLower(f.Name)] == "" {
			return c, fmt.Errorf("field %s of Frame has no comment", f.Name)
		}
	}
	for _, f := range wire.PresenceFields() {
		if c.presence[strings.ToLower(f.Name)] == "" {
			return c, fmt.Errorf("field %s of Presence has no comment", f.Name)
		}
	}
	return c, nil
}

// addFields takes the comments of the fields of Frame or Presence.
func (c *comments) addFields(n *ast.TypeSpec) {
	to := map[string]map[string]string{"Frame": c.fields, "Presence": c.presence}[n.Name.Name]
	s, ok := n.Type.(*ast.StructType)
	if !ok || to == nil {
		return
	}
	for _, f := range s.Fields.List {
		to[strings.ToLower(f.Names[0].Name)] = text(f.Comment)
	}
}

func (c *comments) addConstant(n *ast.ValueSpec) error {
	typ, ok := n.Type.(*ast.Ident)
	if !ok || typ.Name != "Type" && typ.Name != "Code" {
		return nil
	}
	value, err := strconv.Atoi(n.Values[0].(*ast.BasicLit).Value)
	if err != nil {
		return err
	}
	comment := text(n.Comment)
	if comment == "" {
		return fmt.Errorf("%s has no comment", n.Names[0].Name)
	}
	if typ.Name == "Type" {
		_, c.types[wire.Type(value)], _ = strings.Cut(comment, ": ")
	} else {
		c.codes = append(c.codes, code{strings.TrimPrefix(n.Names[0].Name, "Code"), comment, value})
	}
	return nil
}

// text is a comment as a sentence.
func text(g *ast.CommentGroup) string {
	s := strings.TrimSpace(g.Text())
	if s == "" {
		return ""
	}
	return s + "."
}

// field is what the source says of a field.
func (c *comments) field(name string) string { return sentence(c.fields[strings.ToLower(name)]) }

// sentence begins with an upper-case letter, unless with the name of a field.
func sentence(s string) string {
	word, _, _ := strings.Cut(s, " ")
	if strings.ToLower(word) != word {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
