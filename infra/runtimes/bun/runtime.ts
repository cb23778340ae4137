/** Bun, with the guest of sdk/guest. Packages are installed by npm, on the Node of the platform. */
import type { Runtime } from '../contract.ts';

const VERSION = '1.4.5';

const runtime: Runtime = {
  name: 'bun',
  language: 'javascript',
  title: `Bun ${VERSION}`,
  base: {
    packages: ['libc6', 'libstdc++6', 'libgcc-s1'],
    program: {
      packages: {
        x64: {
          name: '@oven/bun-linux-x64',
          integrity:
            'sha512-IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g==',
        },
        arm64: {
          name: '@oven/bun-linux-aarch64',
          integrity:
            'sha512-4BXmsSKnjOrlGWqZV4x/oWa7AVoR+B6lCXddMzOAXBIm3t50eslg9wb66gmtW1AamEQ1l1CDvmmruysEhqOWMg==',
        },
      },
      version: VERSION,
      file: 'bin/bun',
      path: 'usr/bin/bun',
    },
  },
  guest: { bundle: 'sdk/guest/main.ts', target: 'node22', path: 'skiff/guest.cjs' },
  command: () => ['/usr/bin/bun', '/skiff/guest.cjs'],
  env: { BUN_RUNTIME_TRANSPILER_CACHE_PATH: '0', DO_NOT_TRACK: '1' },
  bundleTarget: 'esnext',
  installsOn: 'node:26',
  builtins: ['bun', 'bun:*'],
};

export default [runtime];
