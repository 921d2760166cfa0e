package pack

import (
	"encoding/binary"
	"math"
	"reflect"
)

// unpacker reads what a packer has written, in the same order.
type unpacker struct {
	text    []byte // what is left
	strings []string
	places  []reflect.Value
}

func (u *unpacker) number() uint64 {
	n, length := binary.Uvarint(u.text)
	u.text = u.text[length:]
	return n
}

func (u *unpacker) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(u.number() == 1)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, length := binary.Varint(u.text)
		u.text = u.text[length:]
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(u.number())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Float64frombits(u.number()))
	case reflect.String:
		v.SetString(u.string())
	case reflect.Struct:
		for i := range v.NumField() {
			u.value(v.Field(i))
		}
	case reflect.Array:
		u.elements(v)
	case reflect.Pointer:
		if u.begin(v) {
			u.value(u.made(v, reflect.New(v.Type().Elem())).Elem())
		}
	case reflect.Slice:
		if u.begin(v) {
			u.slice(v)
		}
	case reflect.Map:
		if u.begin(v) {
			u.maps(v)
		}
	}
}

func (u *unpacker) string() string {
	n := u.number()
	if n == uint64(len(u.strings)) {
		length := u.number()
		u.strings = append(u.strings, string(u.text[:length]))
		u.text = u.text[length:]
	}
	return u.strings[n]
}

func (u *unpacker) slice(v reflect.Value) {
	n := int(u.number())
	made := u.made(v, reflect.MakeSlice(v.Type(), n, n))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		u.text = u.text[reflect.Copy(made, reflect.ValueOf(u.text[:n])):]
		return
	}
	u.elements(made)
}

func (u *unpacker) maps(v reflect.Value) {
	n := int(u.number())
	made := u.made(v, reflect.MakeMapWithSize(v.Type(), n))
	key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	for range n {
		key.SetZero()
		value.SetZero()
		u.value(key)
		u.value(value)
		made.SetMapIndex(key, value)
	}
}

// made sets v, which others may refer to later, and returns what it was set to.
func (u *unpacker) made(v, to reflect.Value) reflect.Value {
	u.places = append(u.places, to)
	v.Set(to)
	return to
}

func (u *unpacker) elements(v reflect.Value) {
	for i := range v.Len() {
		u.value(v.Index(i))
	}
}

// begin reports whether the content follows. v is zero before it.
func (u *unpacker) begin(v reflect.Value) bool {
	switch n := u.number(); n {
	case isNil:
		return false
	case isNew:
		return true
	default:
		v.Set(u.places[n-isReference])
		return false
	}
}
