package translate

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"rauta.io/rauta/proxy/config"
)

// Names of the annotations that say how back ends are spoken to.
const (
	annotationBackendProtocol   = annotationPrefix + "backend-protocol"
	annotationBackendCA         = annotationPrefix + "backend-tls-ca"
	annotationBackendClient     = annotationPrefix + "backend-tls-client-certificate"
	annotationBackendServerName = annotationPrefix + "backend-tls-server-name"
	annotationBackendVerify     = annotationPrefix + "backend-tls-verify"
)

// backendAnnotations are the rows of the table for these, by name.
func backendAnnotations(service []string) []Annotation {
	const fails = "requests are answered 500, because they might leave in plain text or to somebody else"
	return []Annotation{{
		Name: annotationBackendProtocol, Kinds: []string{kindIngress, kindService}, Type: "`HTTP`, `HTTPS`, `H2C`, `GRPC` or `GRPCS`",
		Default: "what appProtocol says, else HTTP/1.1 in plain text; for GRPCRoutes HTTP/2", OnInvalid: fails,
		Doc: "What is spoken to the endpoints. HTTPS is TLS with HTTP/2 or HTTP/1.1, whichever the back end prefers (ALPN); GRPCS is TLS " +
			"with HTTP/2; H2C and GRPC are HTTP/2 in plain text. On an Ingress it is for Services without one. It comes before the " +
			"appProtocol of a port. With TLS the certificate of the back end is verified: against the " +
			"authorities that a BackendTLSPolicy or backend-tls-ca names, or else those of the machine.",
		admits: celOneOf("HTTP", "HTTPS", "H2C", "GRPC", "GRPCS"),
		validate: func(v string) error {
			if _, ok := backendProtocols()[v]; !ok {
				return errors.New("is not a protocol for back ends")
			}
			return nil
		},
	}, {
		Name: annotationBackendCA, Kinds: service, Type: "`configmap/NAME` or `secret/NAME`, in the namespace of the Service",
		Default: "the authorities of the machine", OnInvalid: fails,
		Doc:      "Whose certificates a back end with TLS may have: PEM in `ca.crt` of the object. Has no effect if there is a BackendTLSPolicy.",
		admits:   celAuthority,
		validate: func(v string) error { _, _, err := parseAuthority(v, ""); return err },
	}, {
		Name: annotationBackendClient, Kinds: service, Type: "name of a Secret of type kubernetes.io/tls in the namespace of the Service",
		Default: "the certificate of the Gateway, if it has one", OnInvalid: fails,
		Doc:    "What is shown to back ends with TLS that ask for a client certificate.",
		admits: celName,
		validate: func(v string) error {
			if !validName(v) {
				return errors.New("is not the name of a Secret")
			}
			return nil
		},
	}, {
		Name: annotationBackendServerName, Kinds: service, Type: "host name such as web.example.com",
		Default: "`SERVICE.NAMESPACE.svc`", OnInvalid: fails,
		Doc: "What a back end with TLS is asked for (SNI), and what its certificate must be valid for. Has no effect if there is a " +
			"BackendTLSPolicy.",
		admits: celHostname,
		validate: func(v string) error {
			if problem := hostnameError(v, false); problem != "" {
				return errors.New(problem)
			}
			return nil
		},
	}, {
		Name: annotationBackendVerify, Kinds: service, Type: "`on` or `off`", Default: "`on`", OnInvalid: "the default",
		Doc: "`off` accepts any certificate of a back end with TLS: whoever is between it and RAUTA can read and change everything. Has " +
			"no effect if there is a BackendTLSPolicy.",
		admits: celOneOf(verifyOn, verifyOff),
		validate: func(v string) error {
			if v != verifyOn && v != verifyOff {
				return errors.New("is neither on nor off")
			}
			return nil
		},
	}}
}

// spokenProtocol is a value of the annotation backend-protocol.
type spokenProtocol struct {
	protocol config.BackendProtocol
	tls      bool
	grpc     bool
}

func backendProtocols() map[string]spokenProtocol {
	return map[string]spokenProtocol{
		"HTTP": {protocol: config.BackendHTTP1}, "HTTPS": {tls: true}, "H2C": {protocol: config.BackendH2},
		"GRPC": {protocol: config.BackendH2, grpc: true}, "GRPCS": {protocol: config.BackendH2, tls: true, grpc: true},
	}
}

// tlsOfService reads the annotations of a Service that is spoken to with TLS.
func (t *translator) tlsOfService(svc *corev1.Service, report reporter) (*config.BackendTLS, bool) {
	values := svc.Annotations
	tls := &config.BackendTLS{ServerName: svc.Name + "." + svc.Namespace + ".svc"}
	if name, set := values[annotationBackendServerName]; set {
		if hostnameError(name, false) != "" {
			return nil, false // checkAnnotations has told
		}
		tls.ServerName = name
	}
	reference, named := values[annotationBackendCA]
	field := "metadata.annotations[" + annotationBackendCA + "]"
	switch off := values[annotationBackendVerify] == verifyOff; {
	case off && named:
		report.errorf(field, "remove one of the two", "authorities are given, and verification is off; requests are answered 500")
		return nil, false
	case off:
		tls.Unverified = true
		report.warnf("metadata.annotations["+annotationBackendVerify+"]", "give the authorities with "+annotationBackendCA,
			"certificates are not verified: whoever is between RAUTA and the back end can read and change everything")
	case named:
		kind, k, err := parseAuthority(reference, svc.Namespace)
		if err != nil {
			return nil, false
		}
		bundle, err := t.authority(kind, k)
		if err != nil {
			report.errorf(field, authorityHint, "%s %v; requests are answered 500", nameOf(kind, k), err)
			return nil, false
		}
		tls.CA = bundle
	default:
		tls.SystemRoots = true
	}
	return tls, true
}

// Values of the annotation backend-tls-verify.
const (
	verifyOn  = "on"
	verifyOff = "off"
)

// parseAuthority reads "configmap/NAME" or "secret/NAME".
func parseAuthority(value, namespace string) (kind string, k key, err error) {
	prefix, name, _ := strings.Cut(value, "/")
	switch prefix {
	case "configmap":
		kind = kindConfigMap
	case "secret":
		kind = kindSecret
	default:
		return "", key{}, errors.New("is neither configmap/NAME nor secret/NAME")
	}
	if !validName(name) {
		return "", key{}, errors.New("does not name an object")
	}
	return kind, key{namespace, name}, nil
}
