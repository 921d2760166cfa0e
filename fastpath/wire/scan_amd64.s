#include "textflag.h"

// Bytes 0x1f, HTAB, DEL and 0x0f, which the broadcasts below spread.
DATA scanBytes<>+0(SB)/1, $0x1f
DATA scanBytes<>+1(SB)/1, $0x09
DATA scanBytes<>+2(SB)/1, $0x7f
DATA scanBytes<>+3(SB)/1, $0x0f
GLOBL scanBytes<>(SB), RODATA|NOPTR, $4

// tchar by nibbles: byte hi:lo is one if tokenLow[lo] and tokenHigh[hi] share a bit. The bit of row hi is 1<<hi for
// rows 2 to 7; there are none elsewhere.
DATA tokenLow<>+0(SB)/8, $0xfcfcfcfcfcf8fce8
DATA tokenLow<>+8(SB)/8, $0x70f454d054f4f8f8
GLOBL tokenLow<>(SB), RODATA|NOPTR, $16
DATA tokenHigh<>+0(SB)/8, $0x8040201008040000
DATA tokenHigh<>+8(SB)/8, $0x0000000000000000
GLOBL tokenHigh<>(SB), RODATA|NOPTR, $16

// func indexLineEndAVX2(b []byte) (name, end int)
// len(b) >= 32. The last block overlaps the one before: what it sees again is known to be clean.
TEXT ·indexLineEndAVX2(SB), NOSPLIT, $0-40
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	VPBROADCASTB scanBytes<>+0(SB), Y1
	VPBROADCASTB scanBytes<>+1(SB), Y2
	VPBROADCASTB scanBytes<>+2(SB), Y3
	VPBROADCASTB scanBytes<>+3(SB), Y6
	VBROADCASTI128 tokenLow<>(SB), Y7
	VBROADCASTI128 tokenHigh<>(SB), Y8

	// Name: the first block only.
	VMOVDQU   (SI), Y0
	VPSHUFB   Y0, Y7, Y9      // by the low nibble; 0 for bytes over 0x7f
	VPSRLW    $4, Y0, Y10
	VPAND     Y6, Y10, Y10
	VPSHUFB   Y10, Y8, Y10    // by the high nibble
	VPAND     Y9, Y10, Y9
	VPXOR     Y10, Y10, Y10
	VPCMPEQB  Y10, Y9, Y9     // no token character
	VPMOVMSKB Y9, AX
	MOVL      $1, DX
	SHLQ      $32, DX
	ORQ       DX, AX          // 32 if all are
	BSFQ      AX, AX
	MOVQ      AX, name+24(FP)

	// End: block by block.
	MOVQ SI, DI               // DI: current block
	LEAQ -32(SI)(CX*1), R8    // R8: last block
block:
	VPMINUB  Y1, Y0, Y4
	VPCMPEQB Y4, Y0, Y4       // control characters
	VPCMPEQB Y2, Y0, Y5       // HTAB
	VPANDN   Y4, Y5, Y4       // ~Y5 & Y4
	VPCMPEQB Y3, Y0, Y5       // DEL
	VPOR     Y5, Y4, Y4
	VPMOVMSKB Y4, AX
	TESTL    AX, AX
	JNE      found
	CMPQ     DI, R8
	JEQ      none
	ADDQ     $32, DI
	CMPQ     DI, R8
	CMOVQHI  R8, DI
	VMOVDQU  (DI), Y0
	JMP      block
found:
	BSFL AX, AX
	SUBQ SI, DI
	ADDQ DI, AX
	VZEROUPPER
	MOVQ AX, end+32(FP)
	RET
none:
	VZEROUPPER
	MOVQ CX, end+32(FP)
	RET
