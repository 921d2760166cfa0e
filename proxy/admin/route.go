package admin

import (
	"maps"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// route answers GET and HEAD of known paths; a path that ends with "/" (other than the index) takes all below it.
func route(pages map[string]page) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !ctx.IsGet() && !ctx.IsHead() {
			ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, HEAD")
			text(ctx, fasthttp.StatusMethodNotAllowed, "only GET and HEAD\n")
			return
		}
		// Answers tell about a moment, and may tell more than a browser should guess from their bytes.
		ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
		ctx.Response.Header.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
		path := string(ctx.Path())
		if p, ok := pages[path]; ok {
			p.answer(ctx)
			return
		}
		for prefix, p := range pages {
			if prefix != "/" && strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix) {
				p.answer(ctx)
				return
			}
		}
		text(ctx, fasthttp.StatusNotFound, "no such page\n")
	}
}

func sorted(pages map[string]page) []string { return slices.Sorted(maps.Keys(pages)) }
