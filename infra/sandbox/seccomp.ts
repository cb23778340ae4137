/** The seccomp profile of sandboxes; the list itself is data: infra/deploy/seccomp.json. */
import { readFileSync } from 'node:fs';

export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly { index: number; value: number; valueTwo?: number; op: string }[];
  }[];
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
};

/** Only the machine's own instruction set: the 32-bit entries of the kernel have other call numbers. */
export function loadSeccompProfile(arch: string): SeccompProfile {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined) throw new Error(`no seccomp profile for processor architecture ${arch}`);
  const data = JSON.parse(
    readFileSync(new URL('../deploy/seccomp.json', import.meta.url), 'utf8'),
  ) as SeccompProfile;
  return { ...data, architectures: [architecture] };
}
