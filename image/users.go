package image

import "slices"

// UserNumber is the number that a user of the container, or a group if gids is
// set, has in one of the user namespaces made inside, which stand in users by
// their ids. ok is false where it has none.
func UserNumber(users []*UserNamespace, id uint32, gids bool, number uint32) (_ uint32, ok bool) {
	at := id - NamespaceID - 1
	if id <= NamespaceID {
		return number, true
	}
	if at >= uint32(len(users)) || users[at].GetAround() >= id {
		return 0, false // an image may say anything
	}
	if number, ok = UserNumber(users, users[at].GetAround(), gids, number); !ok {
		return 0, false
	}
	extents := users[at].GetUids()
	if gids {
		extents = users[at].GetGids()
	}
	for _, e := range extents {
		if number >= e.GetOutside() && number-e.GetOutside() < e.GetCount() {
			return e.GetInside() + (number - e.GetOutside()), true
		}
	}
	return 0, false
}

// UserBehind is the other way: who of the container has the number number in a
// user namespace made inside.
func UserBehind(users []*UserNamespace, id, number uint32) (_ uint32, ok bool) {
	for id > NamespaceID {
		at := id - NamespaceID - 1
		if at >= uint32(len(users)) || users[at].GetAround() >= id {
			return 0, false
		}
		i := slices.IndexFunc(users[at].GetUids(), func(e *IDExtent) bool {
			return number >= e.GetInside() && number-e.GetInside() < e.GetCount()
		})
		if i < 0 {
			return 0, false
		}
		e := users[at].GetUids()[i]
		number, id = e.GetOutside()+(number-e.GetInside()), users[at].GetAround()
	}
	return number, true
}
