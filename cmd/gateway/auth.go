package main

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/secretdir"
)

// jwtFlags configure --auth-mode=jwt.
type jwtFlags struct {
	SecretDir string `placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current', and optionally 'previous', is the HS256 key of tokens."`
	JWKSURL   string `name:"jwks-url" placeholder:"URL" help:"JSON Web Key Set of the identity provider that signs tokens with RS256 or ES256. Fetched again every 5 minutes, and for unknown keys."`
	Issuer    string `help:"Required iss of tokens. Unset: any."`
	Audience  string `help:"Required aud of tokens. Unset: any."`
}

// webhookFlags configure --auth-mode=webhook.
type webhookFlags struct {
	URL       string        `name:"url" placeholder:"URL" help:"Where tokens are posted to be judged: as {\"token\",\"deviceId\",\"platform\",\"address\"}, answered with 200 and {\"userId\"}, or with 401."`
	Timeout   time.Duration `default:"3s" help:"How long an answer of the webhook may take."`
	Cache     time.Duration `default:"60s" help:"How long a positive answer is used again when the same device reconnects with the same token. 0s: never."`
	SecretDir string        `placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current' signs the requests with HMAC-SHA256. Unset: they are not signed."`
}

// authenticator is who judges tokens, by the flags.
func (c *command) authenticator(logger *slog.Logger, meters metric.MeterProvider) (auth.Authenticator, error) {
	service := auth.Service{Meters: meters}
	switch {
	case c.AuthCAFile != "" && c.JWT.JWKSURL == "" && c.Webhook.URL == "":
		return nil, cli.Configf("--auth-ca-file has no effect without --jwt-jwks-url or --webhook-url")
	case c.AuthMode != "jwt" && c.JWT != jwtFlags{}:
		return nil, cli.Configf("--jwt-secret-dir, --jwt-jwks-url, --jwt-issuer and --jwt-audience have no effect with --auth-mode=%s", c.AuthMode)
	case c.AuthMode != "webhook" && (c.Webhook.URL != "" || c.Webhook.SecretDir != ""):
		return nil, cli.Configf("--webhook-url and --webhook-secret-dir have no effect with --auth-mode=%s", c.AuthMode)
	}
	if c.AuthCAFile != "" {
		var err error
		if service.CAs, err = cli.CertPool("--auth-ca-file", c.AuthCAFile); err != nil {
			return nil, err
		}
	}
	switch c.AuthMode {
	case "jwt":
		return c.JWT.authenticator(service, logger)
	case "webhook":
		if c.Webhook.Timeout >= c.LoginTimeout {
			return nil, cli.Configf("--webhook-timeout must be less than --login-timeout, which is %v: clients would be closed while their token is judged", c.LoginTimeout)
		}
		return c.Webhook.authenticator(service)
	default:
		return auth.Insecure{}, nil
	}
}

func (f *jwtFlags) authenticator(service auth.Service, logger *slog.Logger) (auth.Authenticator, error) {
	switch {
	case f.SecretDir != "" && f.JWKSURL != "":
		return nil, cli.Configf("--jwt-secret-dir and --jwt-jwks-url exclude each other: tokens are signed with a shared key or with a private one")
	case f.JWKSURL != "":
		keys, err := auth.NewKeySet(auth.KeySetConfig{URL: f.JWKSURL, Service: service, Logger: logger})
		if err != nil {
			return nil, cli.Configf("--jwt-jwks-url: %w", err)
		}
		return auth.NewPublicJWT(keys, f.Issuer, f.Audience), nil
	case f.SecretDir == "":
		return nil, cli.Configf("neither --jwt-secret-dir nor --jwt-jwks-url is set: --auth-mode=jwt needs the keys of the tokens")
	}
	key, err := secretdir.Open(f.SecretDir)
	if err != nil {
		return nil, cli.Configf("--jwt-secret-dir: %w", err)
	}
	return auth.NewJWT(key, f.Issuer, f.Audience), nil
}

func (f *webhookFlags) authenticator(service auth.Service) (auth.Authenticator, error) {
	if f.URL == "" {
		return nil, cli.Configf("--webhook-url is not set: --auth-mode=webhook needs to know whom to ask")
	}
	cfg := auth.WebhookConfig{URL: f.URL, Service: service, Timeout: f.Timeout, CacheFor: f.Cache}
	if f.SecretDir != "" {
		secret, err := secretdir.Open(f.SecretDir)
		if err != nil {
			return nil, cli.Configf("--webhook-secret-dir: %w", err)
		}
		cfg.Secret = secret
	}
	webhook, err := auth.NewWebhook(cfg)
	if err != nil {
		return nil, cli.Configf("--webhook-url, --webhook-timeout or --webhook-cache: %w", err)
	}
	return webhook, nil
}
