/** Writes an inference response of the Open Inference Protocol v2, tensors as JSON or as binary data. */
import type { Tensor } from '../engine/tensor.ts';
import type { WantedOutput } from './infer-request.ts';
import { tensorToJson } from './json-tensor.ts';

export interface ApiResponse {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: readonly Uint8Array[];
}

/** `outputs` are in the order of `wanted`. Throws ApiError API_NOT_REPRESENTABLE. */
export function encodeInferResponse(
  model: { readonly name: string; readonly version: number },
  id: string | undefined,
  wanted: readonly WantedOutput[],
  outputs: readonly Tensor[],
): ApiResponse {
  const binary: Uint8Array[] = [];
  const texts = outputs.map((output, index) => {
    const { name, shape, datatype, data } = output;
    if (wanted[index]?.binary !== true) {
      // By hand, because JSON.stringify cannot write an INT64 exactly.
      const head = JSON.stringify({ name, shape, datatype });
      return `${head.slice(0, -1)},"data":${tensorToJson(output)}}`;
    }
    binary.push(data);
    return JSON.stringify({ name, shape, datatype, parameters: { binary_data_size: data.length } });
  });
  const head = JSON.stringify({
    model_name: model.name,
    model_version: String(model.version),
    ...(id === undefined ? {} : { id }),
  });
  const json = new TextEncoder().encode(`${head.slice(0, -1)},"outputs":[${texts.join(',')}]}`);
  if (binary.length === 0) return { headers: { 'content-type': 'application/json' }, body: [json] };
  return {
    headers: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(json.length),
    },
    body: [json, ...binary],
  };
}
