// Package kernel is what this kernel can do: one probe a function, and the
// few calls that x/sys has no wrapper for.
package kernel
