/** Requests as bytes of HTTP and answers as such: by the protocol's words, and whatever else may come. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { DTYPE_BITS, elementCount, fromNumbers, type Tensor, toNumbers } from '../../../src/ir/tensor.ts';
import { DATATYPES, dtypeOf, type Datatype } from '../../../src/serve/datatypes.ts';
import { encodeAnswer, errorText, HEADER_LENGTH, metadataOf, parseHeaderLength, parseRequest, wantedOutputs } from '../../../src/serve/protocol.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A body with bytes behind its JSON, as Triton's clients write it. */
function withBinary(header: object, ...tensors: readonly Uint8Array[]): [Uint8Array, number] {
  const json = bytesOf(JSON.stringify(header));
  return [Buffer.concat([json, ...tensors]), json.byteLength];
}

const input = (more: object): object => ({ inputs: [{ name: 'x', shape: [2, 2], datatype: 'FP32', data: [1, 2, 3, 4], ...more }] });

describe('a request', () => {
  it.each([
    ['flat', [1, 2, 3, 4]],
    ['in rows', [[1, 2], [3, 4]]],
  ])('has its numbers %s', (_, data) => {
    const { id, inputs, outputs, binary } = parseRequest(bytesOf(JSON.stringify({ id: 'a', ...input({ data }) })), undefined);
    expect({ id, outputs, binary }).toEqual({ id: 'a', outputs: undefined, binary: false });
    expect(inputs).toEqual({ x: fromNumbers('float32', [2, 2], [1, 2, 3, 4]) });
  });

  it('has its tensors behind the JSON, in the order of the inputs, beside others in it', () => {
    const [u, v] = [Uint8Array.of(1, 2, 3), new Uint8Array(new Float64Array([0.5]).buffer)];
    const [body, length] = withBinary({
      parameters: { binary_data_output: true, sequence_id: 7 },
      inputs: [
        { name: 'u', shape: [3], datatype: 'UINT8', parameters: { binary_data_size: 3 } },
        { name: 'n', shape: [1], datatype: 'INT64', data: [-5] },
        { name: 'v', shape: [1], datatype: 'FP64', parameters: { binary_data_size: 8 } },
      ],
      outputs: [{ name: 'b', parameters: { binary_data: false } }, { name: 'a' }],
    }, u, v);
    const request = parseRequest(body, length);
    expect(Object.values(request.inputs).map(toNumbers)).toEqual([[1, 2, 3], [-5], [0.5]]);
    expect(request.outputs).toEqual([{ name: 'b', binary: false }, { name: 'a', binary: true }]);
  });

  it.each<[string, string, RegExp]>([
    ['nothing', '', /the request is not JSON: /],
    ['a list', '[]', /the request is not a JSON object/],
    ['no inputs', '{}', /inputs: missing, expected array/],
    ['a type of another protocol', JSON.stringify(input({ datatype: 'FP31' })), /inputs\[0\]\.datatype: "FP31" is not one of .*; did you mean 'FP32'\?/],
    ['a shape below 0', JSON.stringify(input({ shape: [-1] })), /inputs\[0\]\.shape\[0\]/],
    ['an axis too many', JSON.stringify(input({ shape: Array(65).fill(1) })), /inputs\[0\]\.shape/],
    ['shared memory', JSON.stringify(input({ parameters: { shared_memory_region: 'r' } })), /inputs\[0\]\.parameters\.shared_memory_region: shared memory is not supported/],
    ['classes in place of scores', JSON.stringify({ ...input({}), outputs: [{ name: 'y', parameters: { classification: 2 } }] }), /classification is not supported/],
    ['an input twice', JSON.stringify({ inputs: [1, 2].map((n) => ({ name: 'x', shape: [1], datatype: 'FP32', data: [n] })) }), /x: the input is given twice/],
    ['an output twice', JSON.stringify({ ...input({}), outputs: [{ name: 'y' }, { name: 'y' }] }), /y: the output is given twice/],
    ['neither numbers nor bytes', JSON.stringify(input({ data: undefined })), /x: expected either data or parameters\.binary_data_size, found neither/],
    ['both', JSON.stringify(input({ parameters: { binary_data_size: 16 } })), /found both/],
    ['bytes that are not there', JSON.stringify(input({ data: undefined, parameters: { binary_data_size: 16 } })), /x: 16 bytes are announced, but 0 follow the JSON/],
    ['rows of other lengths', JSON.stringify(input({ data: [[1, 2, 3], [4]] })), /x: expected arrays of 2 along axis 1 of \[2,2\], found one of 3/],
    ['too few rows', JSON.stringify(input({ data: [[1, 2]] })), /x: expected arrays of 2 along axis 0 of \[2,2\], found one of 1/],
    ['rows that are none', JSON.stringify(input({ data: [[1, 2], 3] })), /along axis 1 .*, found 3/],
    ['a number in place of a list', JSON.stringify(input({ data: 1 })), /x: expected data as an array, found 1/],
    ['text', JSON.stringify(input({ data: [1, 'a', 3, 4] })), /x: expected a number for float32, found "a" as element 1/],
    ['half an integer', JSON.stringify(input({ datatype: 'INT32', data: [0.5] })), /expected an integer from -2147483648 to 2147483647 for int32, found 0\.5/],
    ['a byte too large', JSON.stringify(input({ datatype: 'UINT8', data: [256] })), /expected an integer from 0 to 255/],
    ['an integer that JSON rounds', JSON.stringify(input({ datatype: 'INT64', data: [2 ** 53] })), /expected an integer within ±2\^53/],
    ['a number for a bool', JSON.stringify(input({ datatype: 'BOOL', data: [1] })), /expected true or false/],
  ])('is refused with %s', (_, text, message) => {
    const error = catching(() => parseRequest(bytesOf(text), undefined));
    expect(error).toMatchObject({ code: 'USAGE' });
    expect(errorText(error as TsrtError)).toMatch(message);
  });

  it('is refused with bytes that are no UTF-8, a length that is none, one beyond the body, and bytes that nobody announced', () => {
    expect(() => parseRequest(Uint8Array.of(0x22, 0xff, 0x22), undefined)).toThrow(/the request is not JSON: /);
    expect(parseHeaderLength(undefined)).toBe(undefined);
    expect(parseHeaderLength('12')).toBe(12);
    for (const text of ['', '-1', '1.5', '0x10', '9'.repeat(20)]) expect(() => parseHeaderLength(text)).toThrow(/expected a number of bytes/);
    const [body, length] = withBinary(input({}), new Uint8Array(3));
    expect(() => parseRequest(body, length)).toThrow('3 bytes follow the last input');
    expect(() => parseRequest(body, body.byteLength + 1)).toThrow(/but the body has/);
  });

  it('is read or refused, whatever it is', () => {
    const [valid, length] = withBinary({ id: '1', ...input({ data: undefined, parameters: { binary_data_size: 16 } }), outputs: [{ name: 'y' }] }, new Uint8Array(16));
    const edits = fc.array(fc.tuple(fc.nat(valid.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    const edited = edits.map((changes) => {
      const body = Uint8Array.from(valid);
      for (const [at, byte] of changes) body[at] = byte;
      return body;
    });
    const shape = fc.oneof(fc.array(fc.nat(4), { maxLength: 4 }), fc.jsonValue());
    const json = fc.record({ inputs: fc.oneof(fc.jsonValue(), fc.array(fc.record({ name: fc.oneof(fc.string(), fc.constant('__proto__')), shape, datatype: fc.constantFrom(...DATATYPES), parameters: fc.jsonValue(), data: fc.jsonValue() }, { requiredKeys: [] }))), outputs: fc.jsonValue(), parameters: fc.jsonValue() }, { requiredKeys: [] });
    const body = fc.oneof(fc.uint8Array({ maxLength: 40 }), edited, json.map((value) => bytesOf(JSON.stringify(value))));
    fc.assert(
      fc.property(body, fc.option(fc.oneof(fc.nat(300), fc.constant(length)), { nil: undefined }), (bytes, end) => {
        const error = catching(() => parseRequest(bytes, end));
        expect(error === undefined || (error instanceof TsrtError && error.code === 'USAGE')).toBe(true);
        if (error) expect(errorText(error as TsrtError)).not.toBe('');
      }),
      { numRuns: 500 },
    );
  });
});

function catching(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** A tensor of any type, of numbers that the type holds. */
const tensors = fc.tuple(fc.constantFrom(...DATATYPES), fc.array(fc.nat(3), { maxLength: 3 })).chain(([datatype, dims]) => {
  const dtype = dtypeOf(datatype);
  const isFloat = dtype.includes('float');
  const element = isFloat ? fc.integer({ min: -64, max: 64 }).map((n) => n / 8) : dtype === 'bool' ? fc.nat(1) : fc.integer({ min: dtype.startsWith('int') ? -128 : 0, max: 127 });
  const count = elementCount(dims);
  return fc.record({ datatype: fc.constant(datatype), tensor: fc.array(element, { minLength: count, maxLength: count }).map((numbers) => fromNumbers(dtype, dims, numbers)), binary: fc.boolean() });
});

/** As JSON has it. */
function elementsOf({ dtype, dims, data }: Tensor): unknown[] {
  return toNumbers({ dtype, dims, data }).map((number) => (dtype === 'bool' ? number === 1 : number));
}

describe('an answer', () => {
  it('is what was asked for, in that order, as JSON or behind it', () => {
    const y = fromNumbers('float32', [1, 2], [0.5, -1]);
    const n = fromNumbers('int64', [1], [3]);
    const asked = { outputs: [{ name: 'n', binary: true }, { name: 'y', binary: false }], binary: false, id: 'a"b' };
    const bindings = [{ name: 'y', dtype: 'float32', dims: [1, 2] }, { name: 'n', dtype: 'int64', dims: [1] }] as const;
    const { headers, body } = encodeAnswer('m', asked, wantedOutputs(asked, bindings), { y, n });
    const length = Number(headers[HEADER_LENGTH]);
    expect(headers['content-type']).toBe('application/octet-stream');
    expect(JSON.parse(Buffer.from(body as Uint8Array).toString('utf8', 0, length))).toEqual({
      model_name: 'm',
      id: 'a"b',
      outputs: [{ name: 'n', shape: [1], datatype: 'INT64', parameters: { binary_data_size: 8 } }, { name: 'y', shape: [1, 2], datatype: 'FP32', data: [0.5, -1] }],
    });
    expect([...(body as Uint8Array).subarray(length)]).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
    expect(() => wantedOutputs({ outputs: [{ name: 'z', binary: true }], binary: false }, bindings)).toThrow('z: no such output');
  });

  it('has every digit of 64-bit integers, and refuses to say NaN in JSON', () => {
    const data = new Uint8Array(new BigInt64Array([-(2n ** 63n), 2n ** 62n + 1n]).buffer);
    const json = (tensor: Tensor): unknown => encodeAnswer('m', { id: undefined }, [{ name: 'y', binary: false }], { y: tensor }).body;
    expect(json({ dtype: 'int64', dims: [2], data })).toContain('"data":[-9223372036854775808,4611686018427387905]');
    for (const dtype of ['float16', 'float32', 'float64'] as const) expect(() => json(fromNumbers(dtype, [1], [Number.NaN]))).toThrow("y: the answer has NaN or infinities, which JSON can't represent");
  });

  it('and a request carry any tensor whole, in either form', () => {
    fc.assert(
      fc.property(fc.array(tensors, { maxLength: 3 }), (all) => {
        const wanted = all.map(({ binary }, i) => ({ name: `t${i}`, binary }));
        const { headers, body } = encodeAnswer('m', { id: undefined }, wanted, Object.fromEntries(all.map(({ tensor }, i) => [`t${i}`, tensor])));
        const bytes = typeof body === 'string' ? bytesOf(body) : body;
        const length = parseHeaderLength(headers[HEADER_LENGTH]);
        // Outputs of an answer have the form of inputs.
        const { outputs } = JSON.parse(Buffer.from(bytes.subarray(0, length)).toString()) as { outputs: { data?: unknown[] }[] };
        for (const [i, { tensor, binary }] of all.entries()) expect(outputs[i]!.data).toEqual(binary ? undefined : elementsOf(tensor));
        const [request, end] = withBinary({ inputs: outputs }, bytes.subarray(length ?? bytes.byteLength));
        const found = Object.values(parseRequest(request, end).inputs);
        expect(found.map(({ dtype, dims, data }) => [dtype, dims, [...data]])).toEqual(all.map(({ tensor: { dtype, dims, data } }) => [dtype, dims, [...data]]));
      }),
      { numRuns: 200 },
    );
  });
});

it('metadata tell the axes that may have any length', () => {
  const x = { name: 'x', dtype: 'float16', dims: [8, 3] } as const;
  expect(metadataOf([x], true)).toEqual([{ name: 'x', datatype: 'FP16', shape: [-1, 3] }]);
  expect(metadataOf([x], false)).toEqual([{ name: 'x', datatype: 'FP16', shape: [8, 3] }]);
  expect(metadataOf([{ ...x, dynamic: true }], false)).toEqual([{ name: 'x', datatype: 'FP16', shape: [-1, -1] }]);
});

it('has a type for everything that engines bind in whole bytes', () => {
  const whole = Object.entries(DTYPE_BITS).filter(([name, bits]) => bits >= 8 && !name.startsWith('float8')).map(([name]) => name);
  expect(DATATYPES.map((datatype: Datatype) => dtypeOf(datatype)).sort()).toEqual(whole.sort());
});
