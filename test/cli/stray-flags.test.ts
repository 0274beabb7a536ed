/** Flags that would change nothing, command by command. */
import { expect, it } from 'vitest';
import { NULL_SUITE, workplace } from './cli.ts';

it.each([
  { words: ['profile', 'a.engine', '--batch', '8'], says: /--batch says how an engine is built, but the file is already one/ },
  { words: ['profile', 'a.engine', '--tune', 'full'], says: /--tune says how/ },
  { words: ['verify', 'a.engine', '--against', 'a.onnx', '--precision', 'fp16'], says: /--precision says how/ },
  { words: ['run', 'smoke', '--rebuild'], says: /--rebuild goes with --engine/ },
  { words: ['run', 'smoke', '--no-accuracy', '--limit', '3'], says: /--limit bounds the accuracy run/ },
  { words: ['gate', 'smoke', '--self-test', '--output', 'gate.json'], says: /--output is for a verdict.*\n {2}fix: .*--json/ },
  { words: ['gate', 'smoke', '--against', 'a.engine', '--baseline', 'old'], says: /--baseline is for a stored baseline/ },
])('refuses $words', async ({ words, says }) => {
  const { status, stdout, stderr } = await (await workplace()).run(...words);
  expect(stderr).toMatch(says);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
});

it('takes defaults for none of them, and inspects an engine as it is alone', async () => {
  const place = await workplace();
  await place.write('suites/nulls/suite.yaml', NULL_SUITE);
  await place.run('build', 'nulls', '--precision', 'fp16', '--output', 'a.engine');
  expect(await place.run('inspect', 'a.engine', '--layers')).toMatchObject({ status: 0, stderr: '' });
  expect(await place.run('inspect', 'a.engine', '--batch', '8')).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('--batch says how an engine is built') as string });
});
