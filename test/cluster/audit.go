package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// auditPolicy has the requests of one user written down, without their contents.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: [%q]}
- {level: None}
`

// auditLineMax bounds one line of the audit log, in bytes.
const auditLineMax = 1 << 20

// Request is one request of Plane.AuditUser for a resource.
type Request struct {
	Verb, Group, Resource, Subresource, Namespace, Name string
	Allowed                                             bool // by RBAC
}

func (p *Plane) auditFlags() ([]string, error) {
	if p.AuditUser == "" {
		return nil, nil
	}
	policy := p.path("audit-policy.yaml")
	if err := os.WriteFile(policy, fmt.Appendf(nil, auditPolicy, p.AuditUser), 0o600); err != nil {
		return nil, err
	}
	return []string{"--audit-policy-file", policy, "--audit-log-path", p.path("audit.log"), "--audit-log-mode", "blocking"}, nil
}

// Audited returns the requests of AuditUser so far; a watch is there from its beginning.
func (p *Plane) Audited() ([]Request, error) {
	f, err := os.Open(p.path("audit.log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, auditLineMax)
	for lines.Scan() {
		var event struct {
			Verb      string
			ObjectRef *struct{ APIGroup, Resource, Subresource, Namespace, Name string }
			// Annotations have the decision of the authorizer.
			Annotations map[string]string
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		if o := event.ObjectRef; o != nil {
			out = append(out, Request{
				Verb: event.Verb, Group: o.APIGroup, Resource: o.Resource, Subresource: o.Subresource, Namespace: o.Namespace, Name: o.Name,
				Allowed: event.Annotations["authorization.k8s.io/decision"] == "allow",
			})
		}
	}
	return out, lines.Err()
}
