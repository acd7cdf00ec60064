package admin

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

// noRoute stands for a path that nothing serves, or not by this method, and for
// a request that was turned away before its path was looked at.
const noRoute = "none"

// served tells of each request by which route it came, and how it was answered.
// What the request itself says is no route: there would be ever more of them.
func served(tell func(route, method string, status int)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(answer, r)
			route, method, status := chi.RouteContext(r.Context()).RoutePattern(), r.Method, answer.Status()
			if route == "" {
				route, method = noRoute, noRoute
			}
			if status == 0 {
				status = http.StatusOK // nothing was written
			}
			tell(route, method, status)
		})
	}
}
