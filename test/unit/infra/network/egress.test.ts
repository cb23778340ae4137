import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  contains,
  firstOf,
  fromNumber,
  INTERNAL_RANGES,
  isInternal,
  lastOf,
  overlaps,
  toNumber,
} from '../../../../infra/network/address.ts';
import { runTool } from '../../../../infra/network/command.ts';
import { Denials, describeDenial } from '../../../../infra/network/denials.ts';
import { allowsName, createPolicy, portsOf } from '../../../../infra/network/policy.ts';
import { createRuleset } from '../../../../infra/network/ruleset.ts';
import { tryParseEgressEntry } from '../../../../sdk/protocol/reach/egress.ts';

const anyAddress = fc.nat({ max: 2 ** 32 - 1 }).map(fromNumber);
const anyRange = fc.record({ address: anyAddress, bits: fc.integer({ min: 1, max: 32 }) });

describe('entries of an allow list', () => {
  it.each([
    ['api.example.com:443', { kind: 'host', host: 'api.example.com', isWildcard: false, port: 443 }],
    ['*.Example.com:80', { kind: 'host', host: 'example.com', isWildcard: true, port: 80 }],
    ['203.0.113.7', { kind: 'range', address: '203.0.113.7', bits: 32 }],
    ['203.0.113.0/24:8080', { kind: 'range', address: '203.0.113.0', bits: 24, port: 8080 }],
  ])('%s', (text, entry) => {
    expect(tryParseEgressEntry(text)).toEqual(entry);
  });

  it.each([
    '',
    'host',
    'host:0',
    'host:65536',
    '0.0.0.0/0',
    '1.2.3:80',
    '0x7f000001:80',
    '2130706433:80',
    '[::1]:80',
    'a..b:80',
    '*:443',
    '1.2.3.4/33',
    '01.2.3.4',
    'a b:80',
    'x@y:80',
  ])('refuses "%s"', (text) => {
    expect(tryParseEgressEntry(text)).toBeUndefined();
  });

  it('never takes for a name what a resolver could take for an address', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (text) => {
        const entry = tryParseEgressEntry(text);
        if (entry?.kind === 'host') expect(entry.host.split('.').at(-1)).toMatch(/^(?!0x).*[a-z]/);
      }),
    );
  });
});

describe('ranges', () => {
  it('an address is a number and back', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(fromNumber(toNumber(address))).toBe(address);
      }),
    );
  });

  it('a range that touches an internal one anywhere is internal, unless all of it is opened', () => {
    fc.assert(
      fc.property(anyRange, fc.constantFrom(...INTERNAL_RANGES), (range, internal) => {
        if (overlaps(range, internal)) expect(isInternal(range, [])).toBe(true);
        expect(isInternal(range, [range])).toBe(false);
        if (contains(range, internal) && range.bits < internal.bits)
          expect(isInternal(range, [internal])).toBe(true);
      }),
    );
  });

  it('a range holds its first and last address', () => {
    fc.assert(
      fc.property(anyRange, (range) => {
        expect(lastOf(range) - firstOf(range)).toBe(2 ** (32 - range.bits) - 1);
        expect(contains(range, { address: range.address, bits: 32 })).toBe(true);
      }),
    );
  });
});

describe('policies', () => {
  it('none allows no name, internet all, a list its own', () => {
    const listed = createPolicy(
      { allow: ['api.example.com:443', '*.example.org:80', 'api.example.com:8443'] },
      [],
    );
    expect(allowsName(createPolicy('none', []), 'example.com')).toBe(false);
    expect(allowsName(createPolicy('internet', []), 'example.com')).toBe(true);
    expect(portsOf(listed, 'api.example.com')).toEqual([443, 8443]);
    expect(portsOf(listed, 'a.b.example.org')).toEqual([80]);
    expect(portsOf(listed, 'example.org')).toEqual([]);
    expect(portsOf(listed, 'evilexample.org')).toEqual([]);
  });

  it('an internal range needs the operator', () => {
    expect(() => createPolicy({ allow: ['10.1.2.3:5432'] }, [])).toThrow(/SKIFF_EGRESS_INTERNAL/);
    expect(
      createPolicy({ allow: ['10.1.2.3:5432'] }, [{ address: '10.1.0.0', bits: 16 }]).ranges,
    ).toHaveLength(1);
  });
});

describe('refusals', () => {
  const listing = (packets: number) =>
    JSON.stringify({
      nftables: [
        { metainfo: {} },
        {
          set: {
            elem: [
              {
                elem: {
                  val: { concat: ['198.18.0.2', '10.0.0.1', 'tcp', 80] },
                  counter: { packets, bytes: 1 },
                },
              },
            ],
          },
        },
      ],
    });

  it('are told once each, also when the counter begins anew', () => {
    const denials = new Denials();
    expect(denials.update(listing(2))).toMatchObject([
      { source: '198.18.0.2', address: '10.0.0.1', port: 80, packets: 2 },
    ]);
    expect(denials.update(listing(2))).toEqual([]);
    expect(denials.update(listing(5))).toMatchObject([{ packets: 3 }]);
    expect(denials.update(listing(1))).toMatchObject([{ packets: 1 }]);
    expect(describeDenial({ target: '10.0.0.1:80', protocol: 'tcp', count: 1 }).fields).toEqual({
      egress: { target: '10.0.0.1:80', protocol: 'tcp', count: 1 },
    });
  });
});

it('a tool that is not installed is an error that names it', async () => {
  await expect(runTool('skiff-no-such-tool', ['x'])).rejects.toMatchObject({
    code: 'COLD_START_FAILED',
    message: expect.stringContaining('skiff-no-such-tool'),
  });
});

it('a device that forwards only because of us forwards to our namespaces alone', () => {
  const input = {
    table: 'skiff_test',
    linkPrefix: 'sktest-',
    block: { address: '198.18.0.0', bits: 22 },
    gateway: '198.18.0.1',
    resolverPort: 1053,
    opened: [],
  };
  const rule = 'iifname { "eth0" } oifname != "sktest-*" drop';
  expect(createRuleset({ ...input, guardedDevices: ['eth0'] })).toContain(rule);
  expect(createRuleset({ ...input, guardedDevices: [] })).not.toContain(rule);
});
