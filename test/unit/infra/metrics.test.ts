import { describe, expect, it } from 'vitest';
import { Metrics } from '../../../infra/lib/metrics.ts';

describe('metrics', () => {
  it('renders counters with escaped labels', () => {
    const metrics = new Metrics();
    const counter = metrics.counter('calls_total', 'Calls.');
    counter.add({ name: 'a"b\\c\nd' });
    counter.add({ name: 'a"b\\c\nd' }, 2);
    const bound = counter.bind({ name: 'plain' });
    bound();
    bound(4);
    expect(metrics.render()).toBe(
      '# HELP calls_total Calls.\n# TYPE calls_total counter\n' +
        'calls_total{name="a\\"b\\\\c\\nd"} 3\ncalls_total{name="plain"} 5\n',
    );
  });

  it('renders cumulative histogram buckets, sum and count', () => {
    const metrics = new Metrics();
    const histogram = metrics.histogram('wait_seconds', 'Waits.', [0.1, 1]);
    for (const seconds of [0.05, 0.1, 0.5, 3]) histogram.observe(seconds, { f: 'x' });
    expect(metrics.render().split('\n').slice(2, -1)).toEqual([
      'wait_seconds_bucket{f="x",le="0.1"} 2',
      'wait_seconds_bucket{f="x",le="1"} 3',
      'wait_seconds_bucket{f="x",le="+Inf"} 4',
      'wait_seconds_sum{f="x"} 3.65',
      'wait_seconds_count{f="x"} 4',
    ]);
  });

  it('leaves out a gauge whose value is not known', () => {
    const metrics = new Metrics();
    metrics.gauge('depth', 'Depth.', () => undefined);
    metrics.gauge('up', 'Up.', () => 1);
    expect(metrics.render()).not.toMatch(/^depth /m);
    expect(metrics.render()).toMatch(/^up 1$/m);
  });

  it('bounds the number of series of one metric', () => {
    const metrics = new Metrics();
    const counter = metrics.counter('calls_total', 'Calls.');
    for (let i = 0; i < 5_000; i++) counter.add({ name: String(i) });
    const lines = metrics
      .render()
      .split('\n')
      .filter((line) => line.startsWith('calls_total{'));
    expect(lines).toHaveLength(2_001);
    expect(lines).toContain('calls_total{overflow="true"} 3000');
  });
});
