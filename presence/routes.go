package presence

import "net/http"

// route serves one method of a path; GET covers HEAD too.
type route struct {
	method, path string
	handle       handler
	// open: the path takes no bearer token. Its handlers authenticate in their own way, if at all.
	open bool
}

func keyed(method, path string, handle handler) route {
	return route{method: method, path: path, handle: handle}
}

func open(method, path string, handle handler) route { return route{method, path, handle, true} }

func (s *Server) publicHandler() http.Handler {
	return s.serve(s.cfg.APIKey, s.publicRoutes()...)
}

// publicRoutes are those of docs/presence-api.md, which openapi.yaml describes as well.
func (s *Server) publicRoutes() []route {
	routes := []route{
		keyed(http.MethodGet, "/v1/presence/{user}", s.getUser),
		keyed(http.MethodPost, "/v1/presence:batchGet", s.batchGet),
		keyed(http.MethodGet, "/v1/presence:watch", s.watch),
		keyed(http.MethodPost, "/v1/presence:watch", s.watch),
		keyed(http.MethodGet, "/v1/online", s.listOnline),
		keyed(http.MethodGet, "/v1/online/count", s.countOnline),
		keyed(http.MethodPost, "/v1/messages", s.sendMessage),
		keyed(http.MethodPost, "/v1/groups", s.createGroup),
		keyed(http.MethodGet, "/v1/groups/{group}", s.getGroup),
		keyed(http.MethodDelete, "/v1/groups/{group}", s.deleteGroup),
		keyed(http.MethodGet, "/v1/groups/{group}/members", s.listMembers),
		keyed(http.MethodPost, "/v1/groups/{group}/members:add", s.addMembers),
		keyed(http.MethodPost, "/v1/groups/{group}/members:remove", s.removeMembers),
		keyed(http.MethodGet, "/v1/users/{user}/groups", s.listOwnedGroups),
		keyed(http.MethodDelete, "/v1/users/{user}/groups", s.deleteOwnedGroups),
		keyed(http.MethodGet, "/v1/users/{user}/status", s.getStatus),
		keyed(http.MethodPut, "/v1/users/{user}/status", s.setStatus),
		keyed(http.MethodGet, "/v1/users/{user}/why", s.why),
		keyed(http.MethodPost, "/v1/users/{user}/disconnect", s.disconnect),
		keyed(http.MethodDelete, "/v1/users/{user}/disconnect", s.reinstate),
	}
	routes = append(routes,
		open(http.MethodGet, "/openapi.json", serveOpenAPIJSON),
		open(http.MethodGet, "/openapi.yaml", serveOpenAPIYAML))
	if s.cfg.LeanCloud.AppID != "" {
		for _, path := range []string{"/1.1/functions/getOnOffStatus", "/1.1/call/getOnOffStatus"} {
			routes = append(routes, open(http.MethodPost, path, s.getOnOffStatus), open(http.MethodOptions, path, allowBrowser))
		}
	}
	return routes
}
