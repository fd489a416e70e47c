// Marks functions that CUDA code may call on a GPU as well.
#pragma once

#ifdef __CUDACC__
#define SMOE_HOST_DEVICE __host__ __device__
#else
#define SMOE_HOST_DEVICE
#endif
