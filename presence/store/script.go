package store

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by it
	_ "embed"
	"encoding/hex"
)

var (
	//go:embed lua/clock.lua
	clockLua string
	//go:embed lua/step.lua
	stepLua string
	//go:embed lua/join.lua
	joinLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/fence.lua
	fenceLua string
	//go:embed lua/buried.lua
	buriedLua string
	//go:embed lua/generation.lua
	generationLua string
	//go:embed lua/done.lua
	doneLua string
	//go:embed lua/fact.lua
	factLua string
	//go:embed lua/base36.lua
	base36Lua string
	//go:embed lua/put.lua
	putLua string
	//go:embed lua/status.lua
	statusLua string
	//go:embed lua/setstatus.lua
	setStatusLua string
	//go:embed lua/dead.lua
	deadLua string
	//go:embed lua/write.lua
	writeLua string
	//go:embed lua/seen.lua
	seenLua string
	//go:embed lua/register.lua
	registerLua string
	//go:embed lua/reassert.lua
	reassertLua string
	//go:embed lua/unregister.lua
	unregisterLua string
	//go:embed lua/split.lua
	splitLua string
	//go:embed lua/reap.lua
	reapLua string
	//go:embed lua/forget.lua
	forgetLua string
	//go:embed lua/mailbox.lua
	mailboxLua string
	//go:embed lua/adopt.lua
	adoptLua string
	//go:embed lua/depart.lua
	departLua string
	//go:embed lua/append.lua
	appendLua string
	//go:embed lua/ack.lua
	ackLua string
	//go:embed lua/peek.lua
	peekLua string
	//go:embed lua/read.lua
	readLua string
	//go:embed lua/control.lua
	controlLua string
	//go:embed lua/revoke.lua
	revokeLua string
	//go:embed lua/revoked.lua
	revokedLua string
	//go:embed lua/group.lua
	groupLua string
	//go:embed lua/groupcreate.lua
	groupCreateLua string
	//go:embed lua/groupunclaim.lua
	groupUnclaimLua string
	//go:embed lua/groupclaim.lua
	groupClaimLua string
	//go:embed lua/groupadd.lua
	groupAddLua string
	//go:embed lua/groupremove.lua
	groupRemoveLua string
	//go:embed lua/groupdelete.lua
	groupDeleteLua string
	//go:embed lua/groupmembers.lua
	groupMembersLua string
	//go:embed lua/groupbegin.lua
	groupBeginLua string
	//go:embed lua/groupfinish.lua
	groupFinishLua string
)

// script is a Lua script that every server is taught before it is used there.
type script struct {
	text, sha string
}

func newScript(parts ...string) *script {
	s := &script{}
	for _, p := range parts {
		s.text += p
	}
	sum := sha1.Sum([]byte(s.text)) //nolint:gosec // see above
	s.sha = hex.EncodeToString(sum[:])
	return s
}

var (
	stepScript   = newScript(clockLua, stepLua)
	joinScript   = newScript(clockLua, joinLua)
	renewScript  = newScript(clockLua, renewLua)
	fenceScript  = newScript(clockLua, fenceLua)
	buriedScript = newScript(clockLua, buriedLua)

	generationScript = newScript(generationLua)
	doneScript       = newScript(factLua, doneLua)
	deadScript       = newScript(factLua, deadLua)
	registerScript   = newScript(mailboxLua, adoptLua, base36Lua, factLua, writeLua, putLua, seenLua, revokedLua, registerLua)
	reassertScript   = newScript(mailboxLua, adoptLua, base36Lua, factLua, writeLua, putLua, revokedLua, reassertLua)
	unregisterScript = newScript(mailboxLua, departLua, base36Lua, factLua, writeLua, seenLua, unregisterLua)
	// registerStatusScript is registerScript that may set a status as well.
	registerStatusScript = newScript(mailboxLua, adoptLua, base36Lua, factLua, writeLua, putLua, seenLua, statusLua, revokedLua, registerLua)
	setStatusScript      = newScript(mailboxLua, base36Lua, factLua, writeLua, seenLua, statusLua, setStatusLua)
	splitScript          = newScript(seenLua, splitLua)
	reapScript           = newScript(mailboxLua, departLua, seenLua, reapLua)
	forgetScript         = newScript(forgetLua)

	appendScript = newScript(mailboxLua, appendLua)
	ackScript    = newScript(mailboxLua, ackLua)
	peekScript   = newScript(mailboxLua, peekLua)
	readScript   = newScript(mailboxLua, readLua)

	controlScript      = newScript(clockLua, controlLua)
	revokeScript       = newScript(revokeLua)
	groupCreateScript  = newScript(groupLua, groupCreateLua)
	groupUnclaimScript = newScript(groupUnclaimLua)
	groupClaimScript   = newScript(groupClaimLua)
	groupAddScript     = newScript(groupLua, groupAddLua)
	groupRemoveScript  = newScript(groupLua, groupRemoveLua)
	groupDeleteScript  = newScript(groupLua, groupDeleteLua)
	groupMembersScript = newScript(groupLua, groupMembersLua)
	groupBeginScript   = newScript(groupLua, groupBeginLua)
	groupFinishScript  = newScript(groupFinishLua)

	scripts = []*script{
		stepScript, joinScript, renewScript, fenceScript, buriedScript, generationScript, doneScript, registerScript,
		registerStatusScript, reassertScript, unregisterScript, setStatusScript, deadScript, splitScript, reapScript, forgetScript, controlScript, revokeScript,
		groupCreateScript, groupUnclaimScript, groupClaimScript, groupAddScript, groupRemoveScript, groupDeleteScript, groupMembersScript, groupBeginScript,
		groupFinishScript, appendScript, ackScript, peekScript, readScript,
		externalScript, restoreScript,
		hookClaimScript, hookTellScript, hookToldScript,
	}
)

// eval returns the arguments of EVALSHA.
func (s *script) eval(keys []string, args ...any) []any {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.sha, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	return append(all, args...)
}
