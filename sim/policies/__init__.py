"""Small policies with the run axis first."""
