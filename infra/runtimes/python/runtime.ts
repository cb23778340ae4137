/** Python from Debian's packages, compiled ahead, with a guest in Python beside this file. */
import type { Runtime } from '../contract.ts';

/** With what the standard library's modules link to; curses, readline and nis are left out. */
const PACKAGES = [
  'python3.11-minimal',
  'libpython3.11-minimal',
  'libpython3.11-stdlib',
  'libc6',
  'libcrypt1',
  'libgcc-s1',
  'libstdc++6',
  'zlib1g',
  'libbz2-1.0',
  'liblzma5',
  'libexpat1',
  'libffi8',
  'libsqlite3-0',
  'libssl3',
  'libuuid1',
  'ca-certificates',
  'tzdata',
];

/** Debian compiles modules and collects certificates when it installs packages; here nothing is installed. */
const PREPARE = `
import compileall, glob, os, py_compile
os.makedirs('/etc/ssl/certs', exist_ok=True)
with open('/etc/ssl/certs/ca-certificates.crt', 'wb') as bundle:
    for name in sorted(glob.glob('/usr/share/ca-certificates/*/*.crt')):
        bundle.write(open(name, 'rb').read())
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
if not compileall.compile_dir('/usr/lib/python3.11', quiet=1, invalidation_mode=mode):
    raise SystemExit('a module could not be compiled')
`;

const runtime: Runtime = {
  name: 'python:3.11',
  language: 'python',
  title: 'Python 3.11',
  base: {
    packages: PACKAGES,
    without:
      /^usr\/lib\/(?:valgrind|python3\.11\/(?:lib2to3|idlelib|turtledemo|pydoc_data|tkinter)\/)|^usr\/share\/zoneinfo\/(?:posix|right)\//,
    keep: /^usr\/share\/zoneinfo\//,
    prepare: ['/usr/bin/python3.11', '-I', '-S', '-c', PREPARE],
  },
  guest: { folder: 'infra/runtimes/python/guest', path: 'skiff/guest' },
  // -I: no variable of a function changes how its interpreter starts.
  command: () => ['/usr/bin/python3.11', '-I', '-B', '-X', 'utf8', '/skiff/guest'],
  env: { SSL_CERT_FILE: '/etc/ssl/certs/ca-certificates.crt' },
};

export default [runtime];
