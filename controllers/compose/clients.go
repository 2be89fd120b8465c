package compose

import (
	"fmt"
	"strings"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// The flags of this file are left out if the spec says nothing about them: the gateway's own defaults are those that the
// comments in package v1alpha1 name, and a release that adds settings replaces no pods of those who do not use them.

// authFlags returns the flags and Secrets that say how tokens are judged.
func authFlags(im *v1alpha1.IMCluster) (args []string, mounts []secretMount) {
	mount := func(name, volume string, ref *v1alpha1.SecretReference) {
		if ref != nil {
			key := secretMount{volume: volume, secret: ref.Name}
			mounts = append(mounts, key)
			args = append(args, flag(name, key.dir()))
		}
	}
	trust := func(ref *v1alpha1.SecretReference) {
		if ref != nil {
			ca := secretMount{volume: "auth-ca", secret: ref.Name, keys: []string{naming.KeyCA}}
			mounts = append(mounts, ca)
			args = append(args, flag("auth-ca-file", ca.dir()+"/"+naming.KeyCA))
		}
	}
	if jwt := im.Spec.Auth.JWT; jwt != nil {
		mount("jwt-secret-dir", "jwt", jwt.SecretRef)
		if jwt.JWKS != nil {
			args = append(args, flag("jwt-jwks-url", jwt.JWKS.URL))
			trust(jwt.JWKS.CASecretRef)
		}
		if jwt.Issuer != "" {
			args = append(args, flag("jwt-issuer", jwt.Issuer))
		}
		if jwt.Audience != "" {
			args = append(args, flag("jwt-audience", jwt.Audience))
		}
	}
	if webhook := im.Spec.Auth.Webhook; webhook != nil {
		args = append(args, flag("webhook-url", webhook.URL))
		trust(webhook.CASecretRef)
		args = appendSeconds(args, "webhook-timeout", webhook.TimeoutSeconds)
		args = appendSeconds(args, "webhook-cache", webhook.CacheSeconds)
		mount("webhook-secret-dir", "webhook", webhook.SecretRef)
	}
	return args, mounts
}

// limitFlags returns the flags that limit what clients may do.
func limitFlags(im *v1alpha1.IMCluster) (args []string) {
	limits := im.Spec.Gateway.Limits
	if limits == nil {
		return nil
	}
	rate := func(suffix string, r *v1alpha1.Rate) {
		if r != nil {
			args = appendNumber(args, "max-frames-per-second"+suffix, r.FramesPerSecond)
			args = appendNumber(args, "max-bytes-per-second"+suffix, r.BytesPerSecond)
		}
	}
	args = appendNumber(args, "max-connections-per-user", limits.ConnectionsPerUser)
	rate("", limits.PerConnection)
	rate("-per-user", limits.PerUser)
	args = appendNumber(args, "max-groups-per-user", limits.GroupsPerUser)
	args = appendNumber(args, "max-group-recipients-per-second", limits.GroupRecipientsPerSecond)
	args = appendNumber(args, "max-subscriptions", limits.SubscriptionsPerConnection)
	if address := limits.PerAddress; address != nil {
		args = appendNumber(args, "max-connections-per-address", address.Connections)
		args = appendNumber(args, "max-logins-per-second-per-address", address.LoginsPerSecond)
		rate("-per-address", &address.Rate)
	}
	return appendList(args, "trusted-proxies", limits.TrustedProxies)
}

// clientFlags returns the flags that say who may connect, and what clients may do.
func clientFlags(im *v1alpha1.IMCluster) []string {
	args := appendList(nil, "allowed-origins", im.Spec.Gateway.AllowedOrigins)
	clients := im.Spec.Gateway.Clients
	if clients == nil {
		return args
	}
	if clients.Broadcast {
		args = append(args, "--allow-broadcast")
	}
	if clients.OnlineList {
		args = append(args, "--allow-online-list")
	}
	if clients.Presence != nil && !*clients.Presence {
		args = append(args, flag("allow-presence", false))
	}
	if clients.Groups != nil && !*clients.Groups {
		args = append(args, flag("allow-client-groups", false))
	}
	return args
}

// messageFlags returns the flags that say how messages are kept. Gateway and presence have them in common.
func messageFlags(im *v1alpha1.IMCluster) (args []string) {
	messages := im.Spec.Messages
	if messages == nil {
		return nil
	}
	args = appendNumber(args, "mailbox-max-messages", messages.MaxMessages)
	args = appendNumber(args, "mailbox-max-bytes", messages.MaxBytes)
	args = appendSeconds(args, "mailbox-retention", messages.RetentionSeconds)
	if messages.Durability == v1alpha1.DurabilityReplicated {
		args = append(args, flag("durability", "replicated"))
	}
	return args
}

func appendNumber(args []string, name string, n *int32) []string {
	if n == nil {
		return args
	}
	return append(args, flag(name, *n))
}

func appendSeconds(args []string, name string, n *int32) []string {
	if n == nil {
		return args
	}
	return append(args, flag(name, seconds(*n)))
}

func appendList[T ~string](args []string, name string, values []T) []string {
	if len(values) == 0 {
		return args
	}
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = string(v)
	}
	return append(args, fmt.Sprintf("--%s=%s", name, strings.Join(text, ",")))
}
