package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// sample has every field of every type set, lists with two elements.
func sample() *Config {
	c := new(Config)
	n := 0
	fill(reflect.ValueOf(c).Elem(), &n)
	return c
}

// fill sets every field to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) / 8)
	default:
		panic("a kind that the test does not know: " + v.Kind().String())
	}
}

// mutations calls f once for each value in v after changing it, and changes it back.
func mutations(v reflect.Value, path string, f func(path string)) {
	change := func(to reflect.Value) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		v.Set(to)
		f(path)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			mutations(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Pointer:
		change(reflect.Zero(v.Type()))
		mutations(v.Elem(), path, f)
	case reflect.Slice:
		change(v.Slice(0, 1))
		for i := range v.Len() {
			if v.Index(i).Kind() == reflect.Pointer { // in lists none is nil
				mutations(v.Index(i).Elem(), fmt.Sprintf("%s[%d]", path, i), f)
				continue
			}
			mutations(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.String:
		change(reflect.ValueOf(v.String() + "x").Convert(v.Type()))
	case reflect.Bool:
		change(reflect.ValueOf(!v.Bool()))
	case reflect.Int, reflect.Int64:
		change(reflect.ValueOf(v.Int() + 1).Convert(v.Type()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		change(reflect.ValueOf(v.Uint() + 1).Convert(v.Type()))
	case reflect.Float64:
		change(reflect.ValueOf(v.Float() + 1))
	default:
		panic("a kind that the test does not know: " + v.Kind().String())
	}
}

func TestEveryFieldChangesTheHash(t *testing.T) {
	c := sample()
	seen := map[[32]byte]string{Hash(c): "the configuration itself"}
	count := 0
	mutations(reflect.ValueOf(c).Elem(), "Config", func(path string) {
		count++
		h := Hash(c)
		if other, ok := seen[h]; ok {
			t.Errorf("changing %s gives the hash of %s", path, other)
		}
		seen[h] = path
	})
	if count < 300 {
		t.Fatalf("only %d mutations: the walk is broken", count)
	}
}

func TestEqualConfigurationsHaveEqualHashes(t *testing.T) {
	if a, b := Hash(sample()), Hash(sample()); a != b {
		t.Error("two equal configurations differ")
	}
	empty := &Config{Listeners: []Listener{}, Routes: []*Route{}, Clusters: []Cluster{}}
	if Hash(empty) != Hash(new(Config)) {
		t.Error("an empty list differs from an absent one")
	}
	// Nodes compare hashes, so that the value must not depend on the process or machine.
	const golden = "66910bb2"
	if got := fmt.Sprintf("%x", Hash(sample()))[:8]; got != golden {
		t.Errorf("the hash of the sample is %s; if Config or the digest changed on purpose, adapt the golden value %s", got, golden)
	}
}

func TestTheHashSurvivesJSON(t *testing.T) {
	c := sample()
	c.Certificates, c.TicketKeys, c.TicketKeySets = nil, nil, nil // keys are neither written nor read
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	back := new(Config)
	if err := json.Unmarshal(text, back); err != nil {
		t.Fatal(err)
	}
	if Hash(back) != Hash(c) {
		t.Fatal("the hash changed")
	}
}

func TestDigestTellsWhichRouteChanged(t *testing.T) {
	c := sample()
	before := NewDigest(c)
	c.Routes[1].Rules[0].Timeouts.Request = Duration(time.Hour)
	after := NewDigest(c)
	if before.Routes[0] != after.Routes[0] || before.Routes[1] == after.Routes[1] || before.All == after.All {
		t.Fatal("expected the hashes of the second route and of the whole to change, and no other")
	}
}
