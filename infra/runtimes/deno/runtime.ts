/** Deno, with the guest of sdk/guest on its Node built-ins. Its permissions are all granted: the sandbox is the fence. */
import type { Runtime } from '../contract.ts';

const MB = 1024 ** 2;
const VERSION = '2.9.5';

const runtime: Runtime = {
  name: 'deno',
  language: 'javascript',
  title: `Deno ${VERSION}`,
  base: {
    packages: ['libc6', 'libgcc-s1'],
    program: {
      packages: {
        x64: {
          name: '@deno/linux-x64-glibc',
          integrity:
            'sha512-TDqcnoLe3jlgqYEQm7H7MK6q0JOth+o8iSZzknRODnVkJfPiNnjVn1M1Zc6vnp+ipkyb6Av1/CUlHgHtlq59Gw==',
        },
        arm64: {
          name: '@deno/linux-arm64-glibc',
          integrity:
            'sha512-IuYjsz9PGl7CJcNXMuN27KNDB8Q40brK3SG3l+TXMDVW61ZKwcn0fQHBHnXFiiygEwI8by/fKnASEluhZB1atw==',
        },
      },
      version: VERSION,
      file: 'deno',
      path: 'usr/bin/deno',
    },
  },
  guest: { bundle: 'sdk/guest/main.ts', target: 'node22', path: 'skiff/guest.cjs' },
  command: (memoryBytes) => [
    '/usr/bin/deno',
    'run',
    '--allow-all',
    '--no-prompt',
    '--no-remote',
    '--no-config',
    ...(memoryBytes === undefined
      ? []
      : [`--v8-flags=--max-old-space-size=${Math.floor((memoryBytes / MB) * 0.75)}`]),
    '/skiff/guest.cjs',
  ],
  env: { DENO_DIR: '/tmp/deno', DENO_NO_UPDATE_CHECK: '1' },
  bundleTarget: 'esnext',
  installsOn: 'node:26',
};

export default [runtime];
