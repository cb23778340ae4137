/**
 * The threat matrix, groups A to F: what must hold before anybody may use this (P0), and which test says that it does.
 * A test is a file and words that stand in it, most of them a test's name; matrix.test.ts fails when they do not, and
 * when a row has none. `not` is for rows of things that Skiff does not have, with what would have to be tested if it had.
 */
export interface Row {
  readonly id: string;
  readonly what: string;
  readonly tests: readonly (readonly [file: string, ...words: readonly string[]])[];
  readonly not?: string;
}

const ESCAPES = 'test/security/suite/';
const UNPACK = 'test/unit/oci/layer-unpack.test.ts';
const STORE = 'test/integration/oci/store.test.ts';
const GATEWAY = 'test/integration/gateway/';
const row = (id: string, what: string, ...tests: Row['tests'][number][]): Row => ({ id, what, tests });
const absent = (id: string, what: string, not: string): Row => ({ id, what, tests: [], not });

export const SANDBOX: readonly Row[] = [
  row('A1', 'no capability, no new privileges, a filter, in every thread', [
    `${ESCAPES}privileges.ts`,
    'A1: every thread',
    'A1: a program that the function executes',
  ]),
  row(
    'A2',
    'ids that are nobody on the host and no neighbour’s',
    [`${ESCAPES}privileges.ts`, 'A2: the one uid inside'],
    ['test/unit/infra/sandbox/uids.test.ts', 'begin at the base and never below a million'],
  ),
  row('A3', 'every number of the system call table, all three entries', [
    `${ESCAPES}kernel.ts`,
    'A3: of the numbers 0 to',
    'A3: the 32-bit entry',
    'A3: the x32 numbers',
  ]),
  row('A4', 'families of sockets', [
    `${ESCAPES}kernel.ts`,
    'A4: of 46 socket families',
    'A4: raw and packet sockets',
  ]),
  row('A5', 'new namespaces', [`${ESCAPES}kernel.ts`, 'A5: clone and unshare', 'A5: clone3']),
  row('A6', 'mounts', [`${ESCAPES}kernel.ts`, 'A6: every call that mounts']),
  row(
    'A7',
    'knobs of the kernel',
    [`${ESCAPES}kernel.ts`, 'A7: %s cannot be written'],
    [`${ESCAPES}escapes.ts`, 'A7 A12 A14: kernel knobs'],
  ),
  row('A9', 'sees and reaches its own processes alone', [
    `${ESCAPES}privileges.ts`,
    'A9: it sees its own processes',
    'A9: /proc/1 leads nowhere',
    'A9: a signal to a host pid',
  ]),
  row('A10', 'no descriptor but its own', [`${ESCAPES}privileges.ts`, 'A10: its descriptors are']),
  row(
    'A11',
    'decides nothing about how it is started',
    [`${ESCAPES}privileges.ts`, 'A11: a deploy cannot set %s', 'A11: its environment'],
    ['test/unit/runner/http/cwd.test.ts', 'cwd'],
  ),
  row(
    'A12',
    'the runtime’s and the host’s programs stay as they are',
    [`${ESCAPES}filesystem.ts`, 'A12 A26: %s cannot be written'],
    [`${ESCAPES}escapes.ts`, 'A7 A12 A14'],
  ),
  row(
    'A13',
    'an image cannot lead mounts astray',
    [
      STORE,
      'mount points are real folders whatever the image has there',
      'a whiteout below a link removes nothing outside',
    ],
    [UNPACK, 'the root as a symbolic link'],
  ),
  row('A14', 'control groups', [`${ESCAPES}filesystem.ts`, 'A14: it sees no cgroup file', 'A14: the host']),
  row(
    'A15',
    'devices',
    [`${ESCAPES}filesystem.ts`, 'A15: only the harmless devices', 'A15: a device node cannot be made'],
    ['test/security/ablation.test.ts', 'A15 make a device'],
  ),
  row(
    'A16',
    'set-user-id and capabilities of files',
    [`${ESCAPES}privileges.ts`, 'A16: no file of the image', 'A2 A16: no call changes who it is'],
    [UNPACK, 'strips set-id and sticky bits'],
  ),
  row('A18', 'dangerous calls, by name', [`${ESCAPES}kernel.ts`, 'A18: %s is refused']),
  row(
    'A24',
    'nothing between sandboxes',
    [
      `${ESCAPES}network.ts`,
      'A24: an abstract socket',
      'A24: System V and POSIX',
      'A24: a shared file cannot be watched',
    ],
    [`${ESCAPES}filesystem.ts`, 'A24: /tmp is its own', 'A24: other functions'],
  ),
  row('A25', 'JavaScript is no wall', [`${ESCAPES}privileges.ts`, 'A25: what breaks out of JavaScript']),
  row(
    'A26',
    'the root cannot be written, nor is it shared for writing',
    [`${ESCAPES}filesystem.ts`, 'A26: the root is read-only'],
    [UNPACK, 'an overlay whiteout device'],
  ),
  row('A27', 'mounts do not propagate', [`${ESCAPES}filesystem.ts`, 'A27: no mount of it is shared']),
  row(
    'A28',
    'the doctor sees what is wrong with the host',
    ['test/unit/host/checks.test.ts', 'security', 'audit of a running server'],
    [`${ESCAPES}escapes.ts`, 'A28: the doctor finds every process'],
  ),
];

export const LIFE: readonly Row[] = [
  row(
    'B1',
    'no sandbox serves two functions',
    [`${ESCAPES}life.ts`, 'B1: no sandbox ever'],
    ['test/e2e/invocation/load.test.ts', 'every cold start gets a sandbox of its own'],
  ),
  row(
    'B2',
    'begins without anything of anybody',
    [`${ESCAPES}life.ts`, 'B2: a new sandbox begins', 'B2 F10: nor in what the runtime keeps'],
    ['test/e2e/sandbox/guest.test.ts', 'leaves no trace of a tenant before'],
  ),
  row('B3', 'does not run between calls', [`${ESCAPES}life.ts`, 'B3: after its answer']),
  row(
    'B4',
    'what it writes belongs to the call that wrote it, or to none',
    ['test/integration/runner/hostile-guest.test.ts', 'an answer to another\\u2019s call cannot be given'],
    ['test/e2e/invocation/failures.test.ts', 'logs carry the invocation id'],
  ),
  row('B5', 'one at a time means one at a time', [
    'test/e2e/invocation/scaling.test.ts',
    'calls of one sandbox run side by side up to its concurrency',
  ]),
  row(
    'B6',
    'a time-out ends all of it',
    [`${ESCAPES}life.ts`, 'B6: a time-out ends every process'],
    ['test/e2e/sandbox/lifecycle.test.ts', 'ends every process in it, whatever they do against it'],
  ),
  row(
    'B7',
    'nothing stays behind',
    [`${ESCAPES}escapes.ts`, '(B7)'],
    ['test/e2e/sandbox/lifecycle.test.ts', 'leaves nothing that the next owner does not remove'],
    ['test/integration/network/networks.test.ts', 'a namespace that is being removed when the runner stops'],
  ),
  row(
    'B8',
    'orphans are reaped before the runner is ready',
    ['test/security/runtime-classes.test.ts', 'sandboxes of every class are reaped'],
    ['test/e2e/faults/restart.test.ts', 'leaves no sandbox of the dead one behind'],
  ),
  row('B9', 'one that fails to start again and again costs nobody else', [
    `${ESCAPES}bombs.ts`,
    'B9: a function that dies at every start',
  ]),
  row(
    'B11',
    'a runner that was paused believes nothing of before',
    ['test/e2e/faults/restart.test.ts', 'a frozen runner is given up'],
    ['test/e2e/swarm/failures.test.ts', 'refuses what that host believes when it thaws'],
  ),
  row('B12', 'disk and inodes', [
    `${ESCAPES}filesystem.ts`,
    'B12: a full /tmp',
    'B12: a million small files',
  ]),
];

export const IMAGES: readonly Row[] = [
  row('C1', 'paths that lead out', [
    UNPACK,
    'a path with ..',
    'a path with .. in a pax header',
    'a path with .. in a GNU long name',
    'a file twice',
    'nothing outside the folder changes',
  ]),
  row(
    'C2',
    'links that lead out',
    [
      UNPACK,
      'a symbolic link that escapes by another link',
      'a hard link to a later file',
      'a write through a symbolic link',
    ],
    [STORE, 'refuses a function layer with a link that leads out'],
  ),
  row(
    'C3',
    'whiteouts',
    [UNPACK, 'a whiteout of ..', 'a whiteout that is a link'],
    [STORE, 'a whiteout below a link removes nothing outside'],
  ),
  row(
    'C4',
    'devices, set-id bits, owners, attributes',
    [
      UNPACK,
      'strips set-id and sticky bits and makes layer files read-only',
      'a negative size',
      'an unknown type',
    ],
    ['test/unit/builder/install/settle.test.ts', 'removes every other thing'],
  ),
  row('C5', 'bombs', [
    UNPACK,
    'by ratio',
    'by number of entries',
    'by concatenated gzip members',
    'bombs cost no more memory than honest archives',
  ]),
  row(
    'C6',
    'digests and sizes',
    [STORE, 'refuses a blob that is damaged in the registry', 'refuses a layer whose diff id is not its own'],
    [
      'test/integration/oci/registry-faults.test.ts',
      'a manifest of another digest',
      'bytes other than the digest are refused',
    ],
  ),
  row('C7', 'one document, two meanings', [
    'test/unit/oci/manifest.test.ts',
    'a manifest that is an index too',
    'schema 1',
    'an upper-case digest',
    'refuses a nested index',
  ]),
  row(
    'C8',
    'what an image says of user, folder and command',
    [`${ESCAPES}privileges.ts`, 'A2: the one uid inside'],
    ['test/unit/infra/sandbox/bundle.test.ts', 'one uid that is nobody on the host'],
    ['test/unit/runner/http/cwd.test.ts', 'cwd'],
  ),
  row('C9', 'a build reads nothing of the host', [
    'test/unit/builder/bundle/confinement.test.ts',
    'reads nothing outside through %s',
    'tsconfig extends',
    'an input source map',
  ]),
  row('C10', 'a build runs nothing of the upload', [
    'test/e2e/builder/install.test.ts',
    'runs no script of it',
    'takes nothing from an .npmrc of the upload',
  ]),
  row(
    'C11',
    'limits of a build',
    ['test/integration/builder/build.test.ts', 'a build that takes too long is ended'],
    ['test/unit/builder/install/settle.test.ts', 'stops measuring at the limit'],
    ['test/integration/builder/lost-builder.test.ts', 'a build that killed its builder twice is given up'],
  ),
  row('C12', 'what builds share cannot be poisoned', [
    'test/integration/builder/mirror.test.ts',
    'forgets what a session took from the cache when its digest was wrong',
    'keeps no tarball that came incomplete',
  ]),
  row('C13', 'network of a build: its registry, and that to read', [
    'test/integration/builder/mirror.test.ts',
    'http://elsewhere/zod',
    '/-/npm/v1/tokens',
    'sends the registry’s credentials to the registry and to nobody',
  ]),
  row(
    'C15',
    'a deploy is whole or did not happen',
    [
      'test/integration/builder/build.test.ts',
      'leaves the live deployment alone when the new one does not start',
    ],
    [
      'test/integration/builder/lost-builder.test.ts',
      'a build whose builder was killed is built by another one',
    ],
  ),
  row(
    'C16',
    'who may read and write images',
    ['test/e2e/swarm/joining.test.ts', 'can fetch images as workers, and neither push nor read sources'],
    ['test/unit/builder/image/readable.test.ts', 'C16: for "%s" there is no %s'],
    ['test/integration/host/backbone.test.ts', 'the registry answers on loopback to its password alone'],
  ),
  row('C17', 'nothing that is needed is collected', [
    'test/integration/builder/collector.test.ts',
    'removes what no deployment needs, after the grace time',
    'an image that a build uses again in the meantime stays',
  ]),
  row(
    'C18',
    'a registry in trouble',
    [
      'test/integration/oci/registry-faults.test.ts',
      'is asked again after 429 and 503',
      'fails when the registry answers another range',
      'gives up when nothing more comes',
    ],
    [STORE, 'needs no registry for what it has'],
  ),
  row(
    'C19',
    'what runs is named by its digest',
    [STORE, 'an absent image is NOT_FOUND and a tag is refused'],
    ['test/e2e/images/port.test.ts', 'its deployment says by digest what runs'],
  ),
  row(
    'C20',
    'uploads',
    [
      `${GATEWAY}deploy.test.ts`,
      'refuses more than the limit in a body of unknown length',
      'survives a client that goes away in the middle',
    ],
    [UNPACK, 'an archive cut off anywhere'],
  ),
];

const EGRESS = 'test/security/egress.test.ts';

export const NETWORK: readonly Row[] = [
  row(
    'D1',
    'without egress it reaches nothing',
    [
      `${ESCAPES}network.ts`,
      'D1: its namespace has loopback',
      'D1: %s cannot be reached',
      'D1: the gateway, the registry and both Redis',
    ],
    [EGRESS, 'D1: no address of this host is reached'],
  ),
  row('D2', 'with egress: what its policy names, never inside', [
    EGRESS,
    'D2: the internal address %s is refused',
    'D2: other ports, other names',
    'D2: the spelling %s',
  ]),
  row('D3', 'neighbours', [EGRESS, 'D3: other sandboxes are not reached', 'D3: it has no IPv6 address']),
  row(
    'D5',
    'addresses that the platform itself asks',
    ['test/unit/events/webhook.test.ts', 'a range that the operator opened is reached'],
    [
      'test/integration/oci/registry-faults.test.ts',
      'follows a redirect of a blob without taking credentials along',
      'does not upload to another host',
    ],
  ),
  row(
    'D6',
    'the channel to the runner',
    [
      'test/integration/runner/hostile-guest.test.ts',
      'D6: whatever bytes come',
      'D6: a guest that does not read',
    ],
    [`${ESCAPES}life.ts`, 'D6: %s on its channel'],
    ['test/unit/runner/channel.test.ts', 'ends a sandbox that sends %s'],
  ),
  row('D8', 'nothing reaches it', [`${ESCAPES}network.ts`, 'D8: a port that it listens on']),
  row(
    'D9',
    'stores and links want to know who asks',
    ['test/integration/swarm/stores.test.ts', 'rights of a worker'],
    [
      'test/e2e/swarm/joining.test.ts',
      'are let in only with the present token',
      'lose everything at once when they are removed',
    ],
  ),
  row(
    'D10',
    'networks are made whole, and taken away whole',
    [EGRESS, 'D10: when somebody removes the rules', 'D10: a killed runner'],
    ['test/integration/network/networks.test.ts', 'a namespace that is being made when the runner stops'],
  ),
  row('D11', 'links that are cut one way', [
    'test/e2e/swarm/failures.test.ts',
    'routes around a runner that one gateway alone cannot reach',
    'goes on when a host is cut off from everything',
  ]),
];

const ACCESS = 'test/security/access.test.ts';

export const EDGE: readonly Row[] = [
  row('E1', 'requests that can be read in two ways', [
    `${GATEWAY}smuggling.test.ts`,
    'requests that could be read in two ways',
    'both lengths',
    'a folded header',
    'bare line feeds',
  ]),
  row('E2', 'requests in pieces', [`${GATEWAY}smuggling.test.ts`, 'each split of a valid request']),
  row(
    'E3',
    'limits of the head',
    [`${GATEWAY}smuggling.test.ts`, 'more headers than allowed are a 431'],
    [`${GATEWAY}platform.test.ts`, 'with too large headers are refused'],
  ),
  row(
    'E4',
    'one spelling of a path for who may and for what is done',
    [`${GATEWAY}smuggling.test.ts`, '//v1/functions', '/f/one%2f..%2ftwo'],
    ['test/unit/gateway/request-head.test.ts', 'no path leads to another function'],
    [ACCESS, 'is not opened by another spelling of its name'],
  ),
  row(
    'E5',
    'bodies',
    ['test/e2e/invocation/failures.test.ts', 'a body over the limit is a 413'],
    [`${GATEWAY}platform.test.ts`, 'with too large a body are refused'],
  ),
  row(
    'E6',
    'slow clients',
    [`${GATEWAY}rate-limits.test.ts`, 'E6: a body that stops coming', 'E6: an answer that is not taken'],
    [`${GATEWAY}smuggling.test.ts`, 'a head that does not end in time'],
  ),
  row('E7', 'connections', ['test/unit/gateway/edge.test.ts', 'E7: connections of one address']),
  row(
    'E8',
    'hop-by-hop and platform headers',
    [ACCESS, 'E8: it cannot set %s', 'E8: what a client sends'],
    ['test/unit/gateway/request-head.test.ts', 'leaves out hop-by-hop headers'],
  ),
  row(
    'E9',
    'answers that are none',
    [ACCESS, 'E9: what a function answers stays one answer'],
    ['test/security/suite/hostile-heads.ts', 'E9: a head with %s'],
    ['test/unit/gateway/answer.test.ts', 'whatever a guest sends as headers'],
  ),
  row('E10', 'clients that leave', [
    'test/e2e/invocation/failures.test.ts',
    'a client that goes away aborts',
    'clients that leave in the middle of quick answers',
  ]),
  row(
    'E11',
    'one status for one cause',
    ['test/e2e/invocation/failures.test.ts', 'failures have one cause and tell whose fault it is'],
    ['test/unit/gateway/problem.test.ts', 'writes a problem document'],
  ),
  absent('E12', 'HTTP/2', 'the gateway does not speak HTTP/2; a proxy that does speaks HTTP/1.1 to it'),
  row('E14', 'JSON', [`${GATEWAY}hostile-json.test.ts`, 'E14: %s is refused, quickly']),
  row('E17', 'no request holds up all others', [
    `${GATEWAY}hostile-json.test.ts`,
    'E17: while they come, others are answered',
  ]),
];

export const IDENTITY: readonly Row[] = [
  row(
    'F1',
    'keys are kept as hashes and shown once',
    ['test/security/secrets.test.ts', 'F1: no answer'],
    ['test/integration/catalog/tokens.test.ts', 'stores only the hash'],
    [`${GATEWAY}authorisation.test.ts`, 'never writes a token into its log'],
  ),
  row(
    'F3',
    'every route, every scope, every owner',
    [`${GATEWAY}authorisation.test.ts`, 'lets in exactly the scopes', 'is let in to %s where it is its own'],
    [ACCESS, 'F3: a private function'],
  ),
  row(
    'F4',
    'what is somebody else’s does not exist',
    [`${GATEWAY}authorisation.test.ts`, 'lists its own alone', 'is answered as one that does not exist'],
    [ACCESS, 'F4: a token bound to functions'],
    ['test/security/suite/namespaces.ts', 'F4: a function of one namespace'],
  ),
  row(
    'F5',
    'a revoked token is one at once',
    [ACCESS, 'F5: not with one that has expired'],
    [`${GATEWAY}authorisation.test.ts`, 'stops letting a revoked token in at once'],
  ),
  row(
    'F7',
    'join tokens',
    ['test/unit/swarm/join-token.test.ts', 'what is no token is refused'],
    ['test/e2e/swarm/joining.test.ts', 'tell it only to the swarm it is for'],
  ),
  row(
    'F9',
    'secrets at rest',
    ['test/unit/infra/secrets/seal.test.ts', 'F9: does not open under another name'],
    ['test/security/secrets.test.ts', 'F9: the key can be replaced'],
  ),
  row(
    'F10',
    'secrets on their way',
    ['test/security/secrets.test.ts', 'F9 F10: are in no file', 'F10: reach no other function'],
    [`${ESCAPES}life.ts`, 'B2 F10'],
  ),
  row('F12', 'the dashboard', [
    'test/e2e/dashboard/dashboard.test.ts',
    'nothing a function says runs or misleads',
    'cannot reach the dashboard or its token',
    'content-security-policy',
  ]),
];

/** Every row of these groups that is P0, written out: a row that vanishes from the lists above is missed. */
export const P0: Readonly<Record<string, readonly number[]>> = {
  A: [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 18, 24, 25, 26, 27, 28],
  B: [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12],
  C: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20],
  D: [1, 2, 3, 5, 6, 8, 9, 10, 11],
  E: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 17],
  F: [1, 3, 4, 5, 7, 9, 10, 12],
};
