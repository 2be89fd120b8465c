package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/demo"
	"github.com/imcluster/imcluster/internal/secretdir"
)

type demoCommand struct {
	gatewayFlags  `embed:""`
	presenceFlags `embed:""`
	tokenFlags    `embed:""`
	StepTimeout   time.Duration `default:"30s" help:"How long each step may take."`
	Stay          time.Duration `help:"How long both users stay online before they log out, to be looked at."`
}

func (c *demoCommand) Run(ctx context.Context, p *printer) error {
	urls, err := c.urls()
	if err != nil {
		return err
	}
	presence, err := c.client()
	if err != nil {
		return err
	}
	token, err := c.signer()
	if err != nil {
		return err
	}
	return runDemo(ctx, p, demo.Config{GatewayURLs: urls, Presence: presence, Token: token, StepTimeout: c.StepTimeout, Stay: c.Stay})
}

// runDemo runs a demonstration and prints its steps.
func runDemo(ctx context.Context, p *printer, cfg demo.Config) error {
	start := time.Now()
	cfg.Report = func(s demo.Step) { printStep(p, s) }
	cfg.Note = func(text string) { p.warn("  … %s", text) }
	if !p.json {
		p.line("Demonstration on %s, presence at %s", strings.Join(cfg.GatewayURLs, ", "), cfg.Presence.URL)
	}
	if err := demo.Run(ctx, cfg); err != nil {
		return fmt.Errorf("the demonstration failed: %w", err)
	}
	if !p.json {
		p.line("Demonstration passed in %s.", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

func printStep(p *printer, s demo.Step) {
	if p.json {
		step := struct {
			Step   string  `json:"step"`
			OK     bool    `json:"ok"`
			Millis float64 `json:"milliseconds"`
			Detail string  `json:"detail,omitempty"`
			Error  string  `json:"error,omitempty"`
		}{Step: s.Name, OK: s.Err == nil, Millis: float64(s.Took.Microseconds()) / 1000, Detail: s.Detail}
		if s.Err != nil {
			step.Error = s.Err.Error()
		}
		_ = p.value(step)
		return
	}
	mark := "✓"
	if s.Err != nil {
		mark = "✗"
	}
	p.line("  %s %-44s %9.1f ms  %s", mark, s.Name, float64(s.Took.Microseconds())/1000, s.Detail)
}

// tokenFlags say how to make tokens.
type tokenFlags struct {
	JWTSecretDir string `name:"jwt-secret-dir" placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current' signs tokens, for gateways with JWT authentication. Unset: the token is the user id, for gateways without."`
	JWTIssuer    string `name:"jwt-issuer" help:"Issuer to put into tokens."`
	JWTAudience  string `name:"jwt-audience" help:"Audience to put into tokens."`
}

// tokenLifetime is how long the tokens are good for, which also ends the sessions.
const tokenLifetime = time.Hour

// signer returns what makes a user's token.
func (f *tokenFlags) signer() (func(user string) (string, error), error) {
	if f.JWTSecretDir == "" {
		return func(user string) (string, error) { return user, nil }, nil
	}
	secret, err := secretdir.Open(f.JWTSecretDir)
	if err != nil {
		return nil, cli.Configf("--jwt-secret-dir: %w", err)
	}
	return func(user string) (string, error) {
		now := time.Now()
		claims := jwt.RegisteredClaims{
			Subject: user, Issuer: f.JWTIssuer, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLifetime)),
		}
		if f.JWTAudience != "" {
			claims.Audience = jwt.ClaimStrings{f.JWTAudience}
		}
		return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret.Current())
	}, nil
}
