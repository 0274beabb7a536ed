/** Loading, told apart from the driver's compilation of kernels, where a backend tells that. */
import { describe, expect, it } from 'vitest';
import { csvReporter } from '../../../src/report/csv.ts';
import { tableReporter } from '../../../src/report/table.ts';
import type { ReportInput } from '../../../src/report/reporter.ts';
import { completed } from '../../helpers/records.ts';

const record = completed();
const split = { ...record, build: { ...record.build, loadMs: 1550, loadSteps: { uploadMs: 80, pipelinesMs: 1240 } } };
const input = (records: ReportInput['records']): ReportInput => ({ suite: 's', records, baselineVariant: undefined, color: false, width: 200 });

describe('load time', () => {
  it('has a column of the table where a record splits it', () => {
    expect(tableReporter.render(input([split]))).toMatch(/load ms[\s\S]*310 \+ 1240[\s\S]*compiles kernels/);
    expect(tableReporter.render(input([record]))).not.toContain('load ms');
  });

  it('says what a load before all others took', () => {
    const after = (loadFirstMs: number) => ({ ...split, build: { ...split.build, loadFirstMs } });
    expect(tableReporter.render(input([split]))).not.toContain('from a first load');
    expect(tableReporter.render(input([after(4700)]))).toMatch(/from a first load, which took 4700\s+ms\./);
    expect(tableReporter.render(input([after(4700), after(510)]))).toMatch(/which took 510 to\s+4700\s+ms\./);
  });

  it('has columns of the CSV', () => {
    const [head, line] = csvReporter.render(input([split])).split('\r\n').map((text) => text.split(','));
    const cell = (name: string) => line![head!.indexOf(name)];
    expect([cell('load_ms'), cell('load_pipelines_ms')]).toEqual(['1550', '1240']);
  });
});
