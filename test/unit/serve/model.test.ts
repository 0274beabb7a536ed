/** A model before its engines: requests of several items taken apart and put together, queues with an end, models whose requests can't be joined. */
import { describe, expect, it } from 'vitest';
import type { TensorMap } from '../../../src/backends/backend.ts';
import type { BatchSession } from '../../../src/batcher.ts';
import type { Binding } from '../../../src/engine/engine.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { type ModelEngines, serveModel } from '../../../src/serve/model.ts';

/** x [batch, 2] → y [batch, 2], twice as much; answers when it is let. */
function engines(batches: readonly number[], more: Partial<Record<'inputs' | 'outputs', readonly Binding[]>> = {}) {
  const seen: number[][] = [];
  let closed = 0;
  const sessions = batches.map((batch) => ({
    header: { options: { batch }, backend: 'fake' },
    maxInFlight: 1,
    inputs: [{ name: 'x', dtype: 'float32', dims: [batch, 2] }],
    outputs: [{ name: 'y', dtype: 'float32', dims: [batch, 2] }],
    async run({ x }: TensorMap): Promise<TensorMap> {
      seen.push([...x!.dims]);
      return { y: fromNumbers('float32', x!.dims, toNumbers(x!).map((value) => 2 * value)) };
    },
    ...more,
  }) as unknown as BatchSession);
  const all: ModelEngines = { sessions, failure: () => undefined, close: async () => void closed++ };
  return { all, seen, closed: () => closed };
}

const request = (items: number, at = 0): TensorMap => ({ x: fromNumbers('float32', [items, 2], Array.from({ length: 2 * items }, (_, i) => at + i)) });

describe('a model', () => {
  it('takes any number of items up to its largest batch, and gives as many back', async () => {
    const { all, seen, closed } = engines([4, 1]);
    const model = serveModel('m', all, {});
    expect([model.isBatched, model.inputs]).toEqual([true, [{ name: 'x', dtype: 'float32', dims: [4, 2] }]]);
    const answers = await Promise.all([1, 2, 3].map((items) => model.infer(request(items, 10 * items))));
    expect(answers.map(({ y }) => [y!.dims, toNumbers(y!)])).toEqual([
      [[1, 2], [20, 22]],
      [[2, 2], [40, 42, 44, 46]],
      [[3, 2], [60, 62, 64, 66, 68, 70]],
    ]);
    // Six items of three requests: four together, then the rest one by one.
    expect(seen).toEqual([[4, 2], [1, 2], [1, 2]]);
    await model.close();
    expect(closed()).toBe(1);
  });

  it.each<[string, TensorMap, RegExp, string?]>([
    ['more items', request(5), /the request has 5 items, but the largest engine takes 4/],
    ['no item', request(0), /do not fit/, 'x: expected float32[1,2], found float32[0,2]'],
    ['another shape', { x: fromNumbers('float32', [2, 3], Array(6).fill(0)) }, /do not fit/, 'x: expected float32[2,2], found float32[2,3]'],
    ['a scalar', { x: fromNumbers('float32', [], [1]) }, /do not fit/, 'x: expected float32[1,2], found float32[]'],
    ['another name', { z: request(1)['x']! }, /do not fit/, 'x: expected float32[1,2], found nothing'],
    ['bytes of another size', { x: { ...request(1)['x']!, dims: [2, 2] } }, /do not fit/, 'x: float32[2,2] takes 16 bytes, found 8'],
  ])('refuses %s', async (_, inputs, message, detail) => {
    const model = serveModel('m', engines([4]).all, {});
    const error = await model.infer(inputs).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'USAGE', message: expect.stringMatching(message) as string });
    if (detail !== undefined) expect((error as { details: string[] }).details).toContain(detail);
  });

  it('takes all items of a request or none', async () => {
    const { all, seen } = engines([2]);
    const model = serveModel('m', all, { maxQueueSize: 3 });
    const taken = model.infer(request(2));
    const refused = model.infer(request(2));
    expect(model.waiting()).toBe(2);
    const last = model.infer(request(1));
    await expect(refused).rejects.toMatchObject({ code: 'OVERLOADED', message: '2 items are already waiting' });
    await Promise.all([taken, last]);
    expect(seen).toHaveLength(2);
  });

  it('answers in line where requests can not be joined, in the shapes of its one engine', async () => {
    const { all, seen } = engines([1], { inputs: [{ name: 'x', dtype: 'float32', dims: [3, 2] }], outputs: [{ name: 'y', dtype: 'float32', dims: [3, 2], dynamic: true }] });
    const model = serveModel('m', all, { maxQueueSize: 2 });
    expect(model.isBatched).toBe(false);
    const answers = [model.infer(request(3)), model.infer(request(3, 1))];
    await expect(model.infer(request(3))).rejects.toMatchObject({ code: 'OVERLOADED' });
    expect((await Promise.all(answers)).map(({ y }) => [y!.dims, toNumbers(y!)[5]])).toEqual([[[3, 2], 10], [[3, 2], 12]]);
    expect(seen).toEqual([[3, 2], [3, 2]]);
    await expect(model.infer(request(2))).rejects.toMatchObject({ code: 'USAGE', details: ['x: expected float32[3,2], found float32[2,2]'] });
  });

  it('is refused with a type that the protocol lacks, a queue without room for a batch, and engines that can not be one', () => {
    const int4: Binding = { name: 'x', dtype: 'int4', dims: [1, 2] };
    expect(() => serveModel('m', engines([1], { inputs: [int4] }).all, {})).toThrow("m can't be served: the protocol has no type for 'x' int4[1,2]");
    expect(() => serveModel('m', engines([8]).all, { maxQueueSize: 7 })).toThrow('only 7 items may wait, but one request to m may have 8');
    expect(() => serveModel('m', engines([1, 2], { outputs: [{ name: 'y', dtype: 'float32', dims: [2] }] }).all, {})).toThrow(/requests can't be joined: output 'y'/);
  });
});
