package series

import "slices"

// next is the number of the next image and that of its parent, 0: it is to be
// complete. Every keep-th is: so no line of images is longer than keep, and one that
// is not kept is needed by at most keep-1 later ones.
func next(have []Image, keep int) (number, after int) {
	if len(have) == 0 {
		return 1, 0
	}
	last := have[len(have)-1]
	if line := lineOf(have, last); line != nil && len(line) < keep {
		after = last.Number
	}
	return last.Number + 1, after
}

// lineOf are an image and those it was made after; nil: one of them is not there.
func lineOf(have []Image, i Image) []Image {
	line := []Image{i}
	for i.After != 0 {
		at := slices.IndexFunc(have, func(h Image) bool { return h.Number == i.After })
		if at < 0 {
			return nil
		}
		i = have[at]
		line = append(line, i)
	}
	return line
}

// spare are the images that are neither among the last keep nor needed by one of
// those, newest first: in this order none is ever there without its parent.
func spare(have []Image, keep int) []Image {
	needed := map[int]bool{}
	for _, h := range have[max(0, len(have)-keep):] {
		for _, i := range lineOf(have, h) {
			needed[i.Number] = true
		}
		needed[h.Number] = true // also where its line is broken
	}
	var out []Image
	for _, h := range slices.Backward(have) {
		if !needed[h.Number] {
			out = append(out, h)
		}
	}
	return out
}
