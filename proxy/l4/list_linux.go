package l4

// node is the place of a tunnel or flow in a list, embedded in it.
type node[T any] struct {
	item       *T
	prev, next *node[T]
}

// list has what was pushed last in front.
type list[T any] struct {
	front, back *node[T]
	len         int
}

func (l *list[T]) push(n *node[T]) {
	n.prev, n.next = nil, l.front
	if l.front != nil {
		l.front.prev = n
	} else {
		l.back = n
	}
	l.front = n
	l.len++
}

func (l *list[T]) remove(n *node[T]) {
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
	n.prev, n.next = nil, nil
	l.len--
}
