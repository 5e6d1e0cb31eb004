/**
 * Assembles a seccomp filter: classic BPF over struct seccomp_data {int nr; u32 arch; u64 ip; u64 args[6]}
 * (Linux Documentation/userspace-api/seccomp_filter.rst). Pure, so a test interprets what it makes.
 *
 * The program reads as: wrong architecture, or the x32 ABI: kill. Then one block for each system call:
 *
 *     if nr != CALL skip this block
 *     for each alternative: if every condition on the arguments holds, allow
 *     otherwise EPERM
 *
 * and at the end EPERM for whatever was not named. Arguments are compared by their low 32 bits, which is what
 * the kernel itself uses of flags, commands and ids; a pointer that must be null is compared whole.
 */

/** `(argument & mask) == equals`, on the low 32 bits; `whole` also demands that the high 32 bits are zero. */
export interface Condition {
  readonly argument: 0 | 1 | 2 | 3 | 4 | 5;
  readonly mask?: number;
  readonly equals: number;
  readonly whole?: true;
}

export interface CallRule {
  readonly number: number;
  /** Allowed if all conditions of one alternative hold. `'always'` and `'enosys'` look at no argument. */
  readonly allow: 'always' | 'enosys' | readonly (readonly Condition[])[];
}

export interface FilterPolicy {
  /** AUDIT_ARCH_* of include/uapi/linux/audit.h. */
  readonly auditArch: number;
  /** x86_64 alone: numbers from here up belong to the x32 ABI, whose calls no rule would match. */
  readonly foreignAbiFrom?: number;
  readonly calls: readonly CallRule[];
}

export const SECCOMP_RET_KILL_PROCESS = 0x80000000;
export const SECCOMP_RET_ALLOW = 0x7fff0000;
export const SECCOMP_RET_ERRNO = 0x00050000;
export const EPERM = 1;
export const ENOSYS = 38;

// struct seccomp_data
const OFFSET_NR = 0;
const OFFSET_ARCH = 4;
const OFFSET_ARGS = 16;
/** BPF_MAXINSNS of include/uapi/linux/bpf_common.h. */
const MAX_INSTRUCTIONS = 4096;

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, value: number];

const load = (offset: number): Instruction => [0x20, 0, 0, offset]; // BPF_LD | BPF_W | BPF_ABS
const and = (mask: number): Instruction => [0x54, 0, 0, mask]; // BPF_ALU | BPF_AND | BPF_K
const give = (result: number): Instruction => [0x06, 0, 0, result]; // BPF_RET | BPF_K
/** Goes on if equal, else skips `otherwise` instructions. */
const equalElseSkip = (value: number, otherwise: number): Instruction => [0x15, 0, otherwise, value];
/** Skips one instruction if the accumulator is below `value`. */
const skipOneIfBelow = (value: number): Instruction => [0x35, 0, 1, value]; // BPF_JMP | BPF_JGE | BPF_K

function conditionBody(condition: Condition, failSkip: (from: number) => number): Instruction[] {
  const low = OFFSET_ARGS + condition.argument * 8; // both architectures are little-endian
  const body: Instruction[] = [];
  if (condition.whole) {
    body.push(load(low + 4));
    body.push(equalElseSkip(0, failSkip(body.length)));
  }
  body.push(load(low));
  if (condition.mask !== undefined) body.push(and(condition.mask));
  body.push(equalElseSkip(condition.equals, failSkip(body.length)));
  return body;
}

function alternativeBody(conditions: readonly Condition[]): Instruction[] {
  const lengths = conditions.map((condition) => conditionBody(condition, () => 0).length);
  const total = lengths.reduce((sum, length) => sum + length, 0) + 1;
  const body: Instruction[] = [];
  for (const condition of conditions) {
    const start = body.length;
    body.push(...conditionBody(condition, (from) => total - (start + from) - 1));
  }
  body.push(give(SECCOMP_RET_ALLOW));
  return body;
}

function callBlock(rule: CallRule): Instruction[] {
  const body: Instruction[] = [];
  if (rule.allow === 'always') {
    body.push(give(SECCOMP_RET_ALLOW));
  } else if (rule.allow === 'enosys') {
    body.push(give(SECCOMP_RET_ERRNO | ENOSYS));
  } else {
    for (const conditions of rule.allow) {
      // An alternative without conditions would allow everything by accident.
      if (conditions.length === 0) throw new RangeError(`system call ${rule.number}: empty alternative`);
      body.push(...alternativeBody(conditions));
    }
    body.push(give(SECCOMP_RET_ERRNO | EPERM));
  }
  if (body.length > 255) throw new RangeError(`system call ${rule.number}: jump too far`);
  return [equalElseSkip(rule.number, body.length), ...body];
}

/** The filter as an array of struct sock_filter, eight bytes each: u16 code, u8 jt, u8 jf, u32 k. */
export function assembleFilter(policy: FilterPolicy): Uint8Array {
  const program: Instruction[] = [
    load(OFFSET_ARCH),
    equalElseSkip(policy.auditArch, 1),
    [0x05, 0, 0, 1], // BPF_JMP | BPF_JA: over the kill
    give(SECCOMP_RET_KILL_PROCESS),
    load(OFFSET_NR),
  ];
  if (policy.foreignAbiFrom !== undefined) {
    program.push(skipOneIfBelow(policy.foreignAbiFrom), give(SECCOMP_RET_KILL_PROCESS));
  }
  for (const rule of policy.calls) program.push(...callBlock(rule));
  program.push(give(SECCOMP_RET_ERRNO | EPERM));
  if (program.length > MAX_INSTRUCTIONS) throw new RangeError(`${program.length} BPF instructions`);

  const bytes = new Uint8Array(new ArrayBuffer(program.length * 8));
  const view = new DataView(bytes.buffer);
  program.forEach(([code, jumpTrue, jumpFalse, value], index) => {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, jumpTrue);
    view.setUint8(index * 8 + 3, jumpFalse);
    view.setUint32(index * 8 + 4, value >>> 0, true);
  });
  return bytes;
}
