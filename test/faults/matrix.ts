/**
 * The threat matrix, groups G (delivery) and H (faults of processes, hosts and what they stand on): what must hold before
 * anybody may use this (P0), and which test says that it does. As test/security/matrix.ts; `open` names what is not shown.
 */
export interface DeliveryRow {
  readonly id: string;
  readonly what: string;
  readonly tests: readonly (readonly [file: string, ...words: readonly string[]])[];
  /** What of the row no test shows yet. */
  readonly open?: string;
}

const POINTS = 'test/faults/events-crash-points.test.ts';
const LEDGER = 'test/faults/events-ledger.test.ts';
const STORE = 'test/integration/events/store.test.ts';
const STATES = 'test/integration/events/state-machine.test.ts';
const DEGRADED = 'test/integration/events/degraded.test.ts';
const SCHEDULER = 'test/integration/events/scheduler.test.ts';
const ASYNC = 'test/e2e/events/async.test.ts';
const HOSTS = 'test/e2e/swarm/failures.test.ts';
const UNWELL = 'test/e2e/swarm/degraded.test.ts';
const OUTAGE = 'test/integration/gateway/outage.test.ts';

export const DELIVERY: readonly DeliveryRow[] = [
  {
    id: 'G1',
    what: 'every 202 ever seen has a final state',
    tests: [
      [LEDGER, 'accepted events all end while processes are killed', 'LEDGER_EVENTS=20000'],
      [STATES, 'end every invocation'],
    ],
  },
  {
    id: 'G2',
    what: 'every execution is of one accepted invocation',
    tests: [[LEDGER, 'one id for each number', 'toHaveLength(records.length)']],
  },
  {
    id: 'G3',
    what: 'every second execution has a reason, and there are few',
    tests: [
      [LEDGER, 'Every second execution has a lost attempt before it'],
      [POINTS, '13: the consumer dies with the result in hand'],
      [LEDGER, 'G3: without faults', 'FAULTLESS_EVENTS=10000000'],
    ],
  },
  {
    id: 'G4',
    what: 'idempotency keys',
    tests: [
      [
        'test/e2e/events/idempotency.test.ts',
        'fifty at once run once',
        'with another body, path or method is 422',
      ],
      ['test/integration/events/accept.test.ts', 'also a hundred times at once'],
      [
        'test/integration/events/idempotency.test.ts',
        'when its holder dies the outcome is unknown',
        'for a day from its end',
      ],
      [POINTS, '8: the record is written, the job is not'],
    ],
  },
  {
    id: 'G5',
    what: 'retries keep their schedule, and refusals have none',
    tests: [
      [
        'test/unit/events/retry.test.ts',
        'G5: a retry waits between',
        'G5: exactly `retries` tries',
        'Retry-After wins',
      ],
      [ASYNC, "the function's Retry-After decides", 'repeating cannot help is obeyed at once'],
    ],
  },
  {
    id: 'G6',
    what: 'poison ends, with its reason, and blocks nobody',
    tests: [
      [STORE, 'three lost attempts make an invocation poison', 'two runners died is dead at once'],
      [ASYNC, 'crashes its sandbox is tried again and then dead'],
      [STORE, 'a backlog of one function does not stand in front of another'],
    ],
  },
  {
    id: 'G7',
    what: 'what is too old is never run',
    tests: [
      [POINTS, '17: the maximum age passes'],
      [STORE, 'past its maximum age an invocation expires and is never begun'],
    ],
  },
  {
    id: 'G8',
    what: 'an old attempt cannot write',
    tests: [
      [POINTS, '14: the consumer is paused beyond its lease'],
      [STORE, 'an old fence token cannot write an end'],
    ],
  },
  {
    id: 'G10',
    what: 'the dead-letter queue',
    tests: [
      ['test/integration/events/accept.test.ts', 'listed by function, replayed and purged'],
      [
        STORE,
        'a replay is a new series with the same id and the old attempts',
        'purging removes dead invocations',
      ],
    ],
  },
  {
    id: 'G12',
    what: 'every tick once',
    tests: [
      [
        SCHEDULER,
        'both alive fire each tick once',
        'a death between planning and writing',
        'may go back an hour',
      ],
      [
        'test/unit/events/instants.test.ts',
        'a gap fires at the first instant',
        'comes twice fires the first time only',
        '29 February',
      ],
    ],
  },
  {
    id: 'G13',
    what: 'cancelling',
    tests: [
      [POINTS, '20: cancel races with the end'],
      [STATES, 'states move along the table'],
    ],
  },
  {
    id: 'G16',
    what: 'two versions side by side',
    tests: [
      ['test/unit/protocol/versions.test.ts', 'agrees on the newest that both speak'],
      ['test/integration/events/upgrade.test.ts', 'events of the release before are neither lost nor stuck'],
    ],
  },
];

export const FAULTS: readonly DeliveryRow[] = [
  {
    id: 'H1',
    what: 'kill -9 of every process, at random and at every crash point',
    tests: [
      [LEDGER, 'killAtRandom'],
      [POINTS, '1: the gateway dies', '18: everything is killed at once', '24: everybody dies at the wake'],
      ['test/e2e/faults/restart.test.ts', 'kill -9 of the runner leaves no sandbox'],
    ],
  },
  {
    id: 'H2',
    what: 'a process that is paused',
    tests: [
      [POINTS, '14: the consumer is paused'],
      ['test/e2e/faults/restart.test.ts', 'a frozen runner is given up'],
      [HOSTS, 'goes on when a host freezes'],
    ],
  },
  {
    id: 'H3',
    what: 'Redis is restarted under load',
    tests: [
      [POINTS, '7: the queue dies later: every 202 stays true'],
      [LEDGER, "'redis'"],
      [OUTAGE, 'answers 503 within its time limit'],
    ],
  },
  {
    id: 'H4',
    what: 'power cuts',
    tests: [
      ['test/faults/events-power-loss.test.ts', 'power cuts', 'a store that does not fsync loses events'],
    ],
  },
  {
    id: 'H5',
    what: 'a damaged append-only file',
    tests: [
      [DEGRADED, 'whose end was cut: it starts', 'it refuses to start and names the tool'],
      ['test/integration/events/accept.test.ts', 'an emptied store is noticed'],
    ],
  },
  {
    id: 'H6',
    what: 'a store that is full, read-only, busy or slow',
    tests: [
      [
        DEGRADED,
        'full: refused',
        'read-only: refused',
        'script: refused',
        'silent: it may have been accepted',
      ],
    ],
  },
  {
    id: 'H8',
    what: 'workers that hear nothing',
    tests: [[DEGRADED, 'H8: workers that hear nothing any more']],
  },
  {
    id: 'H9',
    what: 'partitions',
    tests: [
      [HOSTS, 'cut off from everything', 'that one gateway alone cannot reach'],
      [UNWELL, 'a host that reaches gateways and no store'],
      [POINTS, '19: the queue is out of reach when a result is ready'],
    ],
  },
  {
    id: 'H10',
    what: 'bad links',
    tests: [[UNWELL, 'goes on over a thin line', 'a line that was broken']],
  },
  { id: 'H11', what: 'full disks', tests: [[UNWELL, 'goes on while a disk is full']] },
  {
    id: 'H13',
    what: 'damaged local state',
    tests: [
      ['test/integration/oci/store.test.ts', 'refuses a blob that is damaged', 'without a readable record'],
    ],
  },
  {
    id: 'H14',
    what: 'clocks',
    tests: [
      [UNWELL, 'their clocks are minutes apart'],
      [SCHEDULER, 'the wall clock may go back an hour or forward a year'],
    ],
  },
  {
    id: 'H15',
    what: 'files, processes and memory of the platform run out',
    tests: [
      [DEGRADED, 'full: refused'],
      [OUTAGE, 'H15: without file descriptors', 'recovers by itself'],
    ],
    open: 'a host without pids',
  },
  {
    id: 'H16',
    what: 'parts that start in any order',
    tests: [[OUTAGE, 'starts without any store, and becomes able to work when they appear']],
  },
  {
    id: 'H17',
    what: 'told to stop under load',
    tests: [
      [POINTS, 'H17: the consumer is told to stop under load'],
      [HOSTS, 'moves the replicas of a host that is drained, without a failed call'],
    ],
  },
  {
    id: 'H18',
    what: 'deploys under load',
    tests: [
      ['test/unit/swarm/plan.test.ts', 'an update replaces as many replicas at a time'],
      ['test/e2e/invocation/scaling.test.ts', 'nobody gets an older deployment', 'DEPLOYS=1000'],
    ],
  },
  {
    id: 'H19',
    what: 'a host is lost',
    tests: [[HOSTS, 'loses its power, and takes the host back', 'never runs it twice for long']],
  },
];

/** Every row of these groups that is P0, written out: a row that vanishes from the lists above is missed. */
export const P0: Readonly<Record<string, readonly number[]>> = {
  G: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 16],
  H: [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19],
};
