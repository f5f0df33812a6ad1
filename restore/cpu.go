package restore

import (
	"fmt"
	"slices"
	"strings"

	"ckpt/failure"
	"ckpt/image"
	"ckpt/procfs"
)

// instructions are the features of processors, by their names in /proc/cpuinfo,
// that programs look for (CPUID) and then use without asking again: the C
// library, language runtimes, libraries for numbers and cryptography. Others are
// the kernel's own, or tell of speed. Where a program lands on a processor without
// one that it has found before, it dies of SIGILL.
var instructions = strings.Fields(`
	pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm sse4a
	misalignsse 3dnow 3dnowext 3dnowprefetch xop fma4 tbm rdtscp fsgsbase bmi1 hle avx2 bmi2 rtm mpx
	avx512f avx512dq rdseed adx avx512ifma clflushopt clwb avx512pf avx512er avx512cd sha_ni avx512bw avx512vl
	xsaveopt xsavec xgetbv1 avx_vnni avx512_bf16 clzero avx512vbmi ospke waitpkg avx512_vbmi2 gfni vaes
	vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid cldemote movdiri movdir64b enqcmd
	avx512_4vnniw avx512_4fmaps avx512_vp2intersect serialize tsxldtrk amx_tile amx_int8 amx_bf16 amx_fp16
	amx_complex avx512_fp16 avx_ifma avx_vnni_int8 avx_vnni_int16 avx_ne_convert sha512 sm3 sm4 cmpccxadd
	prefetchi rdpru mwaitx user_shstk`)

// checkCPU refuses an image whose programs may use instructions that this
// processor has not. An image that does not tell (criu's, older ones) passes.
func checkCPU(m *image.Machine, here procfs.CPU) error {
	var missing []string
	for _, f := range m.GetCpuFlags() {
		if slices.Contains(instructions, f) && !slices.Contains(here.Flags, f) {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return failure.WithHint(
		failure.Mark(failure.ErrIncompatible, fmt.Errorf("its programs may use instructions that this processor (%s) has not: %s", here.Model, strings.Join(missing, " "))),
		fmt.Sprintf("restore it on a machine whose processor has them, as the one it was saved on (%s)", m.GetCpuModel()),
		"if you know that the programs do not use them, accept this processor: --any-cpu")
}
