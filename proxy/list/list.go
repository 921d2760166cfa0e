// Package list is a doubly linked list whose nodes are part of what they hold, so that nothing is allocated and an item is
// taken out in constant time from wherever it is.
//
// It owns the order of items and nothing else. Those who keep connections, tunnels, flows and handshakes in order call it:
// each list belongs to one worker.
package list

// Node is the place of an item in one list, a field of the item. Item has to be set before the node is pushed.
type Node[T any] struct {
	Item *T

	in         *List[T] // nil: in none
	prev, next *Node[T]
}

// In reports whether the node is in a list.
func (n *Node[T]) In() bool { return n.in != nil }

// Next returns the node behind n, nil if n is the last one or in no list.
func (n *Node[T]) Next() *Node[T] { return n.next }

// List is empty as its zero value.
type List[T any] struct {
	front, back *Node[T]
	length      int
}

// Front returns the first node, Back the last one; nil if the list is empty.
func (l *List[T]) Front() *Node[T] { return l.front }

// Back is described with Front.
func (l *List[T]) Back() *Node[T] { return l.back }

// Len is the number of nodes.
func (l *List[T]) Len() int { return l.length }

// PushFront puts n before all others. A node that is in a list stays where it is.
func (l *List[T]) PushFront(n *Node[T]) {
	if n.in != nil {
		return
	}
	n.in, n.next = l, l.front
	if l.front != nil {
		l.front.prev = n
	} else {
		l.back = n
	}
	l.front = n
	l.length++
}

// PushBack puts n behind all others. A node that is in a list stays where it is.
func (l *List[T]) PushBack(n *Node[T]) {
	if n.in != nil {
		return
	}
	n.in, n.prev = l, l.back
	if l.back != nil {
		l.back.next = n
	} else {
		l.front = n
	}
	l.back = n
	l.length++
}

// Remove takes n out; a node that is not in l stays as it is.
func (l *List[T]) Remove(n *Node[T]) {
	if n.in != l {
		return
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		l.front = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		l.back = n.prev
	}
	n.in, n.prev, n.next = nil, nil, nil
	l.length--
}
