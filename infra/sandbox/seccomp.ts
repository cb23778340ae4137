/** The seccomp profiles of sandboxes; the lists are data: infra/deploy/seccomp.json, and what builds may call beside. */
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
  return { ...readProfile('seccomp.json'), architectures: [architecture] };
}

/** For sandboxes that build images: mounts, other users, namespaces. What the first list forbids by name it allows. */
export function extendForBuilds(profile: SeccompProfile): SeccompProfile {
  return extend(profile, readProfile('seccomp-build.json').syscalls);
}

const OWN_IDS = ['setuid', 'setgid', 'setreuid', 'setregid', 'setresuid', 'setresgid'];

/** For sandboxes that run install scripts: make sets its ids before each command, to those it has. There are no others. */
export function extendForScripts(profile: SeccompProfile): SeccompProfile {
  return extend(profile, [{ names: OWN_IDS, action: 'SCMP_ACT_ALLOW' }]);
}

function extend(profile: SeccompProfile, added: SeccompProfile['syscalls']): SeccompProfile {
  const names = new Set(added.flatMap((rule) => rule.names));
  const kept = profile.syscalls
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !names.has(name)) }))
    .filter((rule) => rule.names.length > 0);
  return { ...profile, syscalls: [...kept, ...added] };
}

function readProfile(name: string): SeccompProfile {
  return JSON.parse(readFileSync(new URL(`../deploy/${name}`, import.meta.url), 'utf8')) as SeccompProfile;
}
