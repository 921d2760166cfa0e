package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// adminDefault is where serve answers operators unless told otherwise.
const adminDefault = "http://127.0.0.1:9090"

// refusalBytesMax bounds what is read of an answer that says why there is none.
const refusalBytesMax = 64 << 10

// adminURL parses the flag --admin.
func adminURL(flag string) (*url.URL, error) {
	base, err := url.Parse(flag)
	if err != nil || base.Scheme != "http" || base.Host == "" {
		return nil, usagef("--admin %q: must be a URL such as %s", flag, adminDefault)
	}
	return base, nil
}

// ask gets a page of a running RAUTA. The caller looks at the status and closes the body; admin is the flag, for errors.
func ask(ctx context.Context, admin string, page *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", admin, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", admin, err)
	}
	return resp, nil
}

// refusal is the error for an answer that is not 200.
func refusal(admin string, resp *http.Response) error {
	why, err := io.ReadAll(io.LimitReader(resp.Body, refusalBytesMax))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", admin, err)
	}
	return fmt.Errorf("%s answered %s: %s", admin, resp.Status, strings.TrimSpace(string(why)))
}
