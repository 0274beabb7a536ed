/** What inspect prints. */
import { describe, expect, it } from 'vitest';
import { describeInspection } from '../../../src/commands/inspection.ts';
import { sampleHeader } from '../../helpers/engine.ts';

describe('inspect', () => {
  const printed = (header: ReturnType<typeof sampleHeader>): string =>
    describeInspection({ kind: 'engine', file: 'm.engine', fileBytes: 10, parts: [], header }, header, { passes: false, layers: true, tactics: false }).join('\n');

  it('shows layers where the engine has them, and says who does where it has none', () => {
    expect(printed(sampleHeader())).toMatch(/^layers {3}2: 1 Conv, 1 Relu\n[^]*^layer .*kind/m);
    const unchanged = printed(sampleHeader({ layers: [] }));
    expect(unchanged).toContain("layers   the backend's own; profile shows them with their times\n");
    expect(unchanged).not.toMatch(/^layer .*kind/m);
  });
});
