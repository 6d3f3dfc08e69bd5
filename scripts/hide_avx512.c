/* Answers to CPUID without AVX-512, AVX-VNNI and AMX: see hide_avx512.py, which puts a breakpoint in the place of each
 * instruction and preloads this. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

/* Bits of leaf 7 in EBX, ECX and EDX, and of its second part in EAX and EDX (Intel's manual, volume 2A, CPUID). */
static const unsigned AVX512_B = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const unsigned AVX512_C = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
static const unsigned AVX512_AND_AMX_D = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
static const unsigned VNNI_AND_BF16_A1 = BIT(4) | BIT(5);
static const unsigned VNNI_AND_AVX10_D1 = BIT(4) | BIT(5) | BIT(10) | BIT(19);

static void answer(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = (unsigned)registers[REG_RAX], part = (unsigned)registers[REG_RCX];
    unsigned a, b, c, d;
    __cpuid_count(leaf, part, a, b, c, d);
    if (leaf == 7 && part == 0) {
        b &= ~AVX512_B;
        c &= ~AVX512_C;
        d &= ~AVX512_AND_AMX_D;
    } else if (leaf == 7 && part == 1) {
        a &= ~VNNI_AND_BF16_A1;
        d &= ~VNNI_AND_AVX10_D1;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
}

__attribute__((constructor(101))) static void listen(void)
{
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGTRAP, &action, NULL) != 0)
        abort();
}
