/** Frozen tactics: what is read, what is refused by name, and builds that are the same byte for byte. */
import { describe, expect, it } from 'vitest';
import { PORTABLE_PROFILE } from '../../../../src/backends/webgpu/profile.ts';
import { frozenOf, parseFrozen } from '../../../../src/backends/webgpu/tune/frozen.ts';
import { Planner } from '../../../../src/backends/webgpu/tune/planner.ts';
import { TsrtError } from '../../../../src/errors.ts';
import { chain, problems } from './fake.ts';

async function planWith(list: Readonly<Record<string, string>>, graph = chain([3, 1])) {
  const frozen = parseFrozen(JSON.stringify(list), 'list.json');
  const planner = await Planner.open({ profile: PORTABLE_PROFILE, level: 'none', context: { signal: undefined, onProgress: undefined, tuning: { frozen } }, device: undefined });
  const planned = await planner.plan(graph, {});
  return { planned, ...planner.report(planned.choices) };
}

async function refusal(work: Promise<unknown>): Promise<TsrtError> {
  const error: unknown = await work.then(() => undefined, (raised: unknown) => raised);
  if (error instanceof TsrtError) return error;
  throw new Error('nothing was refused');
}

const [first, second] = problems(chain([3, 1]));

describe('frozen tactics', () => {
  it('decide in place of the model, and give the same plan every time', async () => {
    const list = { [first!.id]: first!.names[5]!, [second!.id]: second!.names[3]! };
    const [one, two] = [await planWith(list), await planWith(list)];
    expect(JSON.stringify(one)).toBe(JSON.stringify(two));
    expect(frozenOf(one.tactics!.choices)).toEqual(list);
    expect(one.planned.layers.filter(({ kind }) => kind === 'Conv')).toHaveLength(2);
    expect(one.notices).toEqual([]);
    const untuned = (await planWith({ [first!.id]: first!.names[0]!, [second!.id]: second!.names[0]! })).planned;
    expect(JSON.stringify(untuned.plan)).not.toBe(JSON.stringify(one.planned.plan));
  });

  it('leave problems that they lack to the model, and name what is near', async () => {
    const near = `${second!.id}x`;
    const { tactics, notices } = await planWith({ [first!.id]: first!.names[5]!, [near]: second!.names[3]! });
    expect(tactics!.choices.map(({ by }) => by)).toEqual(['frozen', 'model']);
    expect(notices).toEqual([expect.stringContaining(`lacks 1 of 2 problems`)]);
    expect(notices[0]).toContain(`'${second!.id}' (the list has '${near}')`);
  });

  it('name the nearest tactic where a problem does not have theirs', async () => {
    const error = await refusal(planWith({ [first!.id]: `${first!.names[2]!}1` }));
    expect(error).toMatchObject({ code: 'USAGE', place: 'list.json' });
    expect(error.message).toContain(first!.id);
    expect(error.fix).toContain(`'${first!.names[2]!}'`);
  });

  it('are refused where they are for another model altogether', async () => {
    expect(await refusal(planWith({ 'Conv f32 1x1x1x1': 'x' }))).toMatchObject({ code: 'USAGE', message: expect.stringContaining('none of the problems') });
  });

  it('are read from a map and from an inspection, and nothing else', () => {
    expect([...parseFrozen('{"a":"b"}', 'f').tactics]).toEqual([['a', 'b']]);
    expect([...parseFrozen('{"kind":"engine","header":{},"tactics":{"a":"b"}}', 'f').tactics]).toEqual([['a', 'b']]);
    for (const text of ['', '[]', '3', '{"a":1}', '{"tactics":{"a":1}}', '{"kind":"engine"}x']) expect(() => parseFrozen(text, 'f')).toThrow(/this is not a list of frozen tactics/);
  });
});
