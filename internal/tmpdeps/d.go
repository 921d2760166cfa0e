package tmpdeps
import (
 _ "sigs.k8s.io/gateway-api/apis/v1"
 _ "k8s.io/api/networking/v1"
 _ "k8s.io/api/discovery/v1"
 _ "github.com/valyala/fasthttp"
 _ "golang.org/x/net/http2"
 _ "golang.org/x/net/http2/h2c"
 _ "github.com/VictoriaMetrics/metrics"
 _ "github.com/klauspost/cpuid/v2"
 _ "github.com/spf13/cobra"
 _ "github.com/fsnotify/fsnotify"
 _ "sigs.k8s.io/yaml"
 _ "golang.org/x/sys/unix"
 _ "github.com/coder/websocket"
)
