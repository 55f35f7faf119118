#include <torch/extension.h>
#include <ATen/Parallel.h>
// Depthwise convolution, NHWC float32, padding SAME as TensorFlow's, weights (k*k, C).
template<int K, int S> static void fwd(const float* x,const float* w,const float* b,float* y,int64_t N,int H,int W,int C,int OH,int OW,int PT,int PL){
  at::parallel_for(0,N*OH,1,[&](int64_t s,int64_t e){
    for(int64_t r=s;r<e;r++){ int n=r/OH, oh=r%OH;
      for(int ow=0;ow<OW;ow++){ float* __restrict o=y+((int64_t)r*OW+ow)*C; 
        for(int c=0;c<C;c++) o[c]=b[c];
        for(int kh=0;kh<K;kh++){int ih=oh*S+kh-PT; if(ih<0||ih>=H)continue;
          for(int kw=0;kw<K;kw++){int iw=ow*S+kw-PL; if(iw<0||iw>=W)continue;
            const float* __restrict xi=x+(((int64_t)n*H+ih)*W+iw)*C; const float* __restrict wi=w+(kh*K+kw)*C;
            for(int c=0;c<C;c++) o[c]+=xi[c]*wi[c]; }}
      }}});
}
template<int K, int S> static void bwd(const float* x,const float* w,const float* g,float* gx,float* gw,float* gb,int64_t N,int H,int W,int C,int OH,int OW,int PT,int PL,int T){
  // gw: (T, k*k, C), gb: (T, C) partial sums by image chunk
  at::parallel_for(0,T,1,[&](int64_t s,int64_t e){
   for(int64_t t=s;t<e;t++){ int64_t n0=N*t/T,n1=N*(t+1)/T; float* gwt=gw+t*K*K*C; float* gbt=gb+t*C;
    for(int64_t n=n0;n<n1;n++) for(int oh=0;oh<OH;oh++) for(int ow=0;ow<OW;ow++){
        const float* __restrict go=g+((n*OH+oh)*OW+ow)*C;
        for(int c=0;c<C;c++) gbt[c]+=go[c];
        for(int kh=0;kh<K;kh++){int ih=oh*S+kh-PT; if(ih<0||ih>=H)continue;
          for(int kw=0;kw<K;kw++){int iw=ow*S+kw-PL; if(iw<0||iw>=W)continue;
            int64_t off=((n*H+ih)*W+iw)*C; const float* __restrict xi=x+off; float* __restrict gi=gx+off;
            const float* __restrict wi=w+(kh*K+kw)*C; float* __restrict gwi=gwt+(kh*K+kw)*C;
            for(int c=0;c<C;c++){ float v=go[c]; gi[c]+=v*wi[c]; gwi[c]+=v*xi[c]; } }}
    }}});
}
static void pads(int H,int K,int S,int& O,int& P){O=(H+S-1)/S; int t=std::max((O-1)*S+K-H,0); P=t/2;}
torch::Tensor forward(torch::Tensor x, torch::Tensor w, torch::Tensor b, int64_t K,int64_t S){
  int64_t N=x.size(0);int H=x.size(1),W=x.size(2),C=x.size(3),OH,OW,PT,PL; pads(H,K,S,OH,PT);pads(W,K,S,OW,PL);
  auto y=torch::empty({N,OH,OW,C},x.options());
  #define F(k,s) if(K==k&&S==s) fwd<k,s>(x.data_ptr<float>(),w.data_ptr<float>(),b.data_ptr<float>(),y.data_ptr<float>(),N,H,W,C,OH,OW,PT,PL);
  F(3,1)F(3,2)F(5,1)F(5,2)
  return y;}
std::vector<torch::Tensor> backward(torch::Tensor x, torch::Tensor w, torch::Tensor g,int64_t K,int64_t S){
  int64_t N=x.size(0);int H=x.size(1),W=x.size(2),C=x.size(3),OH,OW,PT,PL; pads(H,K,S,OH,PT);pads(W,K,S,OW,PL);
  int T=8; auto gx=torch::zeros_like(x); auto gw=torch::zeros({T,K*K,C},x.options()), gb=torch::zeros({T,C},x.options());
  #define B(k,s) if(K==k&&S==s) bwd<k,s>(x.data_ptr<float>(),w.data_ptr<float>(),g.data_ptr<float>(),gx.data_ptr<float>(),gw.data_ptr<float>(),gb.data_ptr<float>(),N,H,W,C,OH,OW,PT,PL,T);
  B(3,1)B(3,2)B(5,1)B(5,2)
  return {gx,gw.sum(0),gb.sum(0)};}
PYBIND11_MODULE(TORCH_EXTENSION_NAME,m){m.def("forward",&forward);m.def("backward",&backward);}
