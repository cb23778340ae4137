import { functionFixture } from '../../helpers/fixtures.ts';
import { describeRuntime } from './conformance.ts';

for (const runtime of ['node:26', 'node:24', 'node:22'])
  describeRuntime(runtime, functionFixture('behaviour.ts'));
