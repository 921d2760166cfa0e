// Package pack moves plain data to memory of its own.
//
// Go does not move objects. What is made while other things are read stands between these, and when they are gone their pages
// stay, mostly empty: a configuration of 10,000 routes that lived in 8 MB held another 8 (PERF.md, "Memory from files"). Packed
// into one buffer, and unpacked when everything else has been collected, it stands together.
//
// It owns the packed form, which never leaves the process. control packs what was read from files.
package pack

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
)

// Packed is a value in packed form. It refers to nothing of what it was made from.
type Packed[T any] struct{ text []byte }

// What stands before a pointer, a slice or a map.
const (
	isNil = iota
	isNew
	isReference // to the first one; the next number is to the second, and so on
)

// Pack packs what v points to: structs whose fields are exported, slices, arrays, maps, pointers, strings, booleans and numbers.
// What is in one memory will be in one memory again, and equal strings and short lists will, too: nobody may change one, or what
// is in it. It panics at anything else.
func Pack[T any](v *T) Packed[T] {
	p := packer{strings: map[string]uint64{}, places: map[place]uint64{}, lists: map[list]uint64{}}
	p.value(reflect.ValueOf(v).Elem())
	return Packed[T]{p.text}
}

// Unpack makes the value, in memory that nothing else refers to.
func (p Packed[T]) Unpack() *T {
	v := new(T)
	u := unpacker{text: p.text}
	u.value(reflect.ValueOf(v).Elem())
	return v
}

// place is where something is in memory. A struct and its first field are in the same one.
type place struct {
	kind    reflect.Type
	address uintptr
	length  int
}

// list is what is in a slice without anything that is in another place.
type list struct {
	kind reflect.Type
	text string
}

// listBytesMax of packed text are compared with those of other lists.
const listBytesMax = 64

type packer struct {
	text    []byte
	strings map[string]uint64
	places  map[place]uint64 // the number of what is there
	made    uint64           // numbers that are taken
	lists   map[list]uint64
}

func (p *packer) number(n uint64) { p.text = binary.AppendUvarint(p.text, n) }

func (p *packer) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			p.number(1)
		} else {
			p.number(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.text = binary.AppendVarint(p.text, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.number(v.Uint())
	case reflect.Float32, reflect.Float64:
		p.number(math.Float64bits(v.Float()))
	case reflect.String:
		p.string(v.String())
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				panic(fmt.Sprintf("pack: field %s of %s is not exported", v.Type().Field(i).Name, v.Type()))
			}
			p.value(v.Field(i))
		}
	case reflect.Array:
		p.elements(v)
	case reflect.Pointer:
		if p.begin(v, 1) {
			p.value(v.Elem())
		}
	case reflect.Slice:
		p.slice(v)
	case reflect.Map:
		p.maps(v)
	default:
		panic(fmt.Sprintf("pack: %s is not plain data", v.Type()))
	}
}

func (p *packer) string(s string) {
	n, known := p.strings[s]
	if !known {
		n = uint64(len(p.strings))
		p.strings[s] = n
	}
	p.number(n)
	if !known {
		p.number(uint64(len(s)))
		p.text = append(p.text, s...)
	}
}

func (p *packer) slice(v reflect.Value) {
	start := len(p.text)
	if !p.begin(v, v.Len()) {
		return
	}
	number := p.made - 1
	p.number(uint64(v.Len()))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		p.text = append(p.text, v.Bytes()...)
	} else {
		p.elements(v)
	}
	if p.made != number+1 || len(p.text)-start > listBytesMax {
		return
	}
	l := list{v.Type(), string(p.text[start:])}
	if like, known := p.lists[l]; known {
		p.text, p.made = p.text[:start], number
		p.places[placeOf(v, v.Len())] = like
		p.number(isReference + like)
		return
	}
	p.lists[l] = number
}

func (p *packer) maps(v reflect.Value) {
	if !p.begin(v, 0) {
		return
	}
	p.number(uint64(v.Len()))
	for each := v.MapRange(); each.Next(); {
		p.value(each.Key())
		p.value(each.Value())
	}
}

func (p *packer) elements(v reflect.Value) {
	for i := range v.Len() {
		p.value(v.Index(i))
	}
}

// begin reports whether the content is to follow.
func (p *packer) begin(v reflect.Value, length int) bool {
	if v.IsNil() {
		p.number(isNil)
		return false
	}
	at := placeOf(v, length)
	if n, known := p.places[at]; known {
		p.number(isReference + n)
		return false
	}
	p.places[at] = p.made
	p.made++
	p.number(isNew)
	return true
}

func placeOf(v reflect.Value, length int) place { return place{v.Type(), v.Pointer(), length} }
